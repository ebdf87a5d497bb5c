"""``points drop`` and ``reclaim``: points that are wanted no more, and the space that they took."""

from typing import TYPE_CHECKING, Any

import typer

from common.cli_edge import edge, emit, table
from target_appliance.cli.options import AsJson, ReplicaName, Tenant, configured
from target_appliance.cli.points import AllOr, PointNumberOption, chosen, points

if TYPE_CHECKING:
    from target_appliance.catalog.model import ReplicaRow
    from target_appliance.recovery.reclaim import Reclaimed

_MIB = 1 << 20


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    points.command("drop")(_drop)
    app.command("reclaim")(_reclaim)


def _drop(
    context: typer.Context,
    replica: ReplicaName,
    *,
    point: PointNumberOption,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Drop a point for good. It needs no key; its space comes back when no kept point needs it, see reclaim.

    The newest point, a locked one, a held one and what a sync under way may stand on are not dropped.
    """
    with edge(as_json=as_json):
        from common.ids import parse_point  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.retention.drop import drop  # noqa: PLC0415

        config, number = configured(context), parse_point(point)
        with opened(config) as held:
            row = held.find_replica(replica, tenant)
            with audited(config, "points drop", f"replica {row.replica}", row.tenant, point=number):
                drop(held.vault, row.tenant, row.replica, number, "by command")
                held.catalog.follow(held.vault, row.tenant, row.replica)
        emit(
            {"replica": row.replica, "point": number}, [f"point {number} of {row.vm_name} is dropped"], as_json=as_json
        )


def _reclaim(context: typer.Context, replica: AllOr = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Give the space of dropped points back, as far as it is worth it; needs no key. The server does it by itself."""
    with edge(as_json=as_json):
        from common.progress import counted  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415

        config = configured(context)
        done = []
        with opened(config) as held:
            for row in chosen(held, replica, tenant):
                with (
                    audited(config, "reclaim", f"replica {row.replica}", row.tenant) as told,
                    counted(f"reclaim {row.vm_name}", None) as progress,
                ):
                    found = held.vault.reclaim(row.tenant, row.replica, progress)
                    held.catalog.follow(held.vault, row.tenant, row.replica)
                    told.facts.update(points=len(found.removed), freed_bytes=found.freed, written_bytes=found.written)
                done.append((row, found))
        lines = table(
            ("vm", "replica", "removed", "waiting", "MiB back", "MiB written"),
            [_cells(row, found) for row, found in done],
        )
        lines += [f"{row.vm_name} is put off: {found.put_off}" for row, found in done if found.put_off]
        freed = sum(found.freed for _, found in done)
        lines.append(f"{freed / _MIB:.1f} MiB came back")
        members = {"freed_bytes": freed, "replicas": [_members(row, found) for row, found in done]}
        emit(members, lines, as_json=as_json)


def _cells(row: "ReplicaRow", found: "Reclaimed") -> tuple[str, ...]:
    counts = str(len(found.removed)), str(found.waiting)
    return (row.vm_name, row.replica, *counts, f"{found.freed / _MIB:.1f}", f"{found.written / _MIB:.1f}")


def _members(row: "ReplicaRow", found: "Reclaimed") -> dict[str, Any]:
    return {
        "tenant": row.tenant,
        "replica": row.replica,
        "removed": list(found.removed),
        "waiting": found.waiting,
        "freed_bytes": found.freed,
        "written_bytes": found.written,
        "put_off": found.put_off,
    }

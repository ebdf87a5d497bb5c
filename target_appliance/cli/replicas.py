"""``replicas``, ``points list`` and ``catalog``: what the appliance holds."""

from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from common.cli_edge import edge, emit, table
from target_appliance.cli.options import AsJson, ReplicaName, Tenant, configured
from target_appliance.cli.points import points

if TYPE_CHECKING:
    from collections.abc import Iterable

    from target_appliance.catalog.model import ReplicaRow, ScrubRow
    from target_appliance.recovery.types import PointRecord

_MIB = 1 << 20
_catalog = typer.Typer(no_args_is_help=True, help="Look after the catalog, which the store can rebuild.")


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.command("replicas")(_replicas)
    points.command("list")(_points)
    app.add_typer(_catalog, name="catalog")


def _replicas(context: typer.Context, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """List the replicas that the appliance holds, with their newest points."""
    with edge(as_json=as_json):
        from common.ids import parse_tenant  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415

        wanted = None if tenant is None else parse_tenant(tenant)
        with opened(configured(context)) as held:
            rows = held.catalog.replicas(wanted)
            looked = _looked(held.catalog.scrubs(wanted))
        lines = table(
            ("tenant", "vm", "replica", "points", "newest", "of", "MiB", "scrub"),
            [
                (
                    row.tenant,
                    row.vm_name,
                    row.replica,
                    str(row.points),
                    str(row.newest or "-"),
                    _time(row.newest_time),
                    f"{row.stored_bytes / _MIB:.1f}",
                    _scrubbed(looked[row.tenant, row.replica]),
                )
                for row in rows
            ],
        )
        told = [
            {**_replica(row), "checked_points": checked, "bad_points": bad}
            for row in rows
            for checked, bad in [looked[row.tenant, row.replica]]
        ]
        emit({"replicas": told}, lines, as_json=as_json)


def _looked(rows: "Iterable[ScrubRow]") -> "dict[tuple[str, str], tuple[int, int]]":
    """By replica how many points the scrub has looked at, and how many of them are not good."""
    found: dict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))
    for row in rows:
        if row.state is not None:
            checked, bad = found[row.tenant, row.replica]
            found[row.tenant, row.replica] = (checked + 1, bad + (row.state != "good"))
    return found


def _scrubbed(looked: tuple[int, int]) -> str:
    checked, bad = looked
    return f"{bad} bad" if bad else f"{checked} good" if checked else "-"


def _points(context: typer.Context, replica: ReplicaName, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """List a replica's points, with what each holds of which disk, as the store has them."""
    with edge(as_json=as_json):
        from common.errors import DamagedError  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415

        listed, damaged = [], []
        with opened(configured(context)) as held:
            row = held.find_replica(replica, tenant)
            stored_bytes = held.vault.every_stored_bytes(row.tenant, row.replica)
            for number in stored_bytes:
                try:
                    record = held.vault.point(row.tenant, row.replica, number)
                except DamagedError as error:
                    damaged.append({"point": number, "cause": error.message})
                else:
                    listed.append(_point(record, stored_bytes[number]))
        lines = table(
            ("point", "of", "kind", "consistency", "MiB", "disks"),
            [
                (
                    str(point["point"]),
                    point["time"],
                    point["kind"],
                    point["consistency"],
                    f"{point['stored_bytes'] / _MIB:.1f}",
                    ", ".join(f"{disk['key']} ({disk['grains']} grains)" for disk in point["disks"]),
                )
                for point in listed
            ],
        )
        lines += [f"damaged: point {each['point']}: {each['cause']}" for each in damaged]
        emit({**_replica(row), "points": listed, "damaged": damaged}, lines, as_json=as_json)


@_catalog.command("rebuild")
def _rebuild(context: typer.Context, as_json: AsJson = False) -> None:
    """Make the catalog again from the store, and its agents from the certificates that were issued.

    Damaged points are named; run verify on their replicas.
    """
    with edge(as_json=as_json):
        from target_appliance.admission import restore  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.set_up import register_issued  # noqa: PLC0415

        config = configured(context)
        with audited(config, "catalog rebuild"), opened(config) as held:
            found = held.catalog.rebuild(held.vault)
            restore(config, held.catalog)
            agents = register_issued(held.authority, held.catalog)
            held.catalog.reconcile(held.vault)  # what was committed while the store was read
            tenants, rows = held.catalog.tenants(), held.catalog.replicas()
        damaged = [
            {"tenant": tenant, "replica": replica, "point": point, "cause": cause}
            for (tenant, replica, point), cause in sorted(found.damaged.items())
        ]
        result = {
            "tenants": len(tenants),
            "agents": agents,
            "replicas": len(rows),
            "points": sum(row.points for row in rows),
            "damaged": damaged,
        }
        lines = [f"{len(tenants)} tenants, {agents} agents, {len(rows)} replicas, {result['points']} points"]
        lines += [f"damaged: replica {row['replica']} point {row['point']}: {row['cause']}" for row in damaged]
        emit(result, lines, as_json=as_json)


def _time(seconds: int | None) -> str:
    return "-" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _iso(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _replica(row: "ReplicaRow") -> dict[str, Any]:
    return {
        "tenant": row.tenant,
        "vm": row.vm_name,
        "replica": row.replica,
        "point_count": row.points,
        "newest": row.newest,
        "newest_time": _iso(row.newest_time),
        "stored_bytes": row.stored_bytes,
    }


def _point(record: "PointRecord", stored_bytes: int) -> dict[str, Any]:
    return {
        "point": record.number,
        "kind": record.kind.value,
        "time": _iso(record.snapshot_time),
        "committed": _iso(record.commit_time),
        "consistency": record.consistency,
        "parent": record.parent,
        "record_hash": record.record_hash.hex(),
        "stored_bytes": stored_bytes,
        "disks": [
            {
                "key": disk.spec.key,
                "label": disk.spec.label,
                "capacity_bytes": disk.spec.capacity_bytes,
                "kind": disk.spec.kind.value,
                "base_point": disk.base_point,
                "grains": disk.grains,
            }
            for disk in record.disks
        ],
    }

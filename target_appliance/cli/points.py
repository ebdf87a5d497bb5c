"""``points``: a replica's points, what retention says of each, and holds."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from common.cli_edge import edge, emit, table
from target_appliance.cli.options import AsJson, ReplicaName, Tenant, configured

if TYPE_CHECKING:
    from target_appliance.at_rest import AtRest
    from target_appliance.catalog.model import ReplicaRow
    from target_appliance.retention.plan import Plan

_MIB = 1 << 20


class _ListsByItself(TyperGroup):
    """``points REPLICA`` is ``points list REPLICA``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See click."""
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["list", *args]
        return super().parse_args(ctx, args)


points = typer.Typer(
    cls=_ListsByItself, no_args_is_help=True, help="Points of replicas: listed, planned, held. REPLICA alone lists."
)

AllOr = Annotated[
    str | None, typer.Argument(metavar="REPLICA", help="The replica's id or its VM's name; all if left out.")
]
PointNumberOption = Annotated[int, typer.Option("--point", metavar="N", help="The point.")]
HoldName = Annotated[str, typer.Option("--name", metavar="NAME", help="What the hold is called, such as case-17.")]


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    points.command("plan-retention")(_plan)
    points.command("hold")(_hold)
    points.command("release")(_release)
    app.add_typer(points, name="points")


def _plan(context: typer.Context, replica: AllOr = None, tenant: Tenant = None, as_json: AsJson = False) -> None:
    """Tell which points the rules keep and which they drop, each with every reason; nothing is done."""
    with edge(as_json=as_json):
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.retention.clock import OFF  # noqa: PLC0415
        from target_appliance.retention.plan import plan  # noqa: PLC0415

        found, lines = [], []
        with opened(configured(context)) as held:
            for row in chosen(held, replica, tenant):
                planned = plan(held.vault, row.tenant, row.replica)
                bytes_of = held.vault.every_stored_bytes(row.tenant, row.replica)
                found.append(_planned(row, planned, bytes_of))
                lines += _lines(row, planned, found[-1]["dropped_bytes"])
            lag, now = held.vault.time.lag(), held.vault.time.now()
        if abs(lag) > OFF:
            lines.append(f"time for retention is {_iso(now)}, {abs(lag)} seconds from the machine's clock: check NTP")
        emit({"now": _iso(now), "clock_ahead_seconds": lag, "replicas": found}, lines, as_json=as_json)


def _hold(
    context: typer.Context,
    replica: ReplicaName,
    *,
    point: PointNumberOption,
    hold_name: HoldName,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is shown wherever the point is.")],
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Keep a point, whatever the rules say, until it is released; a point may have several holds."""
    with edge(as_json=as_json):
        from common.ids import parse_point  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.retention.keeper import Keeper  # noqa: PLC0415
        from target_appliance.retention.rules import Hold  # noqa: PLC0415

        config, number = configured(context), parse_point(point)
        with opened(config) as held:
            row = held.find_replica(replica, tenant)
            about = f"replica {row.replica}"
            with audited(config, "points hold", about, row.tenant, point=number, hold=hold_name, why=reason):
                Keeper(held.vault).hold(row.tenant, row.replica, number, Hold(hold_name, reason))
        result = {"replica": row.replica, "point": number, "name": hold_name, "reason": reason}
        emit(result, [f"point {number} of {row.vm_name} is held: {hold_name}, {reason}"], as_json=as_json)


def _release(
    context: typer.Context,
    replica: ReplicaName,
    *,
    point: PointNumberOption,
    hold_name: HoldName,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Take a hold back: the rules decide on the point again."""
    with edge(as_json=as_json):
        from common.ids import parse_point  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.retention.keeper import Keeper  # noqa: PLC0415

        config, number = configured(context), parse_point(point)
        with opened(config) as held:
            row = held.find_replica(replica, tenant)
            about = f"replica {row.replica}"
            with audited(config, "points release", about, row.tenant, point=number, hold=hold_name):
                left = Keeper(held.vault).release(row.tenant, row.replica, number, hold_name).holds.get(number, ())
        result = {"replica": row.replica, "point": number, "name": hold_name, "holds_left": len(left)}
        lines = [f"point {number} of {row.vm_name} is released from {hold_name}; {len(left)} other holds are left"]
        emit(result, lines, as_json=as_json)


def chosen(held: "AtRest", replica: str | None, tenant: str | None) -> "list[ReplicaRow]":
    """The replica that was named; else all, of the tenant that was. Raises NotFoundError, PreconditionError."""
    from common.ids import parse_tenant  # noqa: PLC0415

    if replica is not None:
        return [held.find_replica(replica, tenant)]
    return list(held.catalog.replicas(None if tenant is None else held.catalog.tenant(parse_tenant(tenant)).tenant))


def _planned(row: "ReplicaRow", planned: "Plan", bytes_of: dict[Any, int]) -> dict[str, Any]:
    return {
        "tenant": row.tenant,
        "vm": row.vm_name,
        "replica": row.replica,
        "policy": None if planned.policy is None else str(planned.policy),
        "policy_of": planned.whose,
        "points": [
            {
                "point": verdict.number,
                "time": _iso(record.retention_time),
                "kept": verdict.kept,
                "reasons": list(verdict.reasons),
                "locked_until": None if record.locked_until is None else _iso(record.locked_until),
                "stored_bytes": bytes_of.get(verdict.number, 0),
            }
            for verdict, record in zip(planned.verdicts, planned.records, strict=True)
        ],
        "dropped": len(planned.drops),
        "dropped_bytes": sum(bytes_of.get(verdict.number, 0) for verdict in planned.drops),
        "damaged": [{"point": number, "cause": cause} for number, cause in sorted(planned.damaged.items())],
    }


def _lines(row: "ReplicaRow", planned: "Plan", dropped_bytes: int) -> list[str]:
    rules = f"{planned.policy} (of the {planned.whose})" if planned.policy else "no rules"
    rows = [
        (
            str(verdict.number),
            _iso(record.retention_time),
            "kept" if verdict.kept else "dropped",
            "; ".join(verdict.reasons),
        )
        for verdict, record in zip(planned.verdicts, planned.records, strict=True)
    ]
    drops = len(planned.drops)
    return [
        f"{row.vm_name} ({row.replica}) of tenant {row.tenant}: {rules}",
        *table(("point", "of", "", "because"), rows),
        *(f"point {number} is kept, its record is damaged: {cause}" for number, cause in planned.damaged.items()),
        f"{len(rows) - drops} kept, {drops} dropped, at most {dropped_bytes / _MIB:.1f} MiB given back",
    ]


def _iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()

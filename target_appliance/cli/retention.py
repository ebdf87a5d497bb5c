"""``retention``: which points are kept, by tenant and by replica, and for how long nobody may drop them."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.cli_edge import edge, emit, table
from target_appliance.cli.options import AsJson, configured

if TYPE_CHECKING:
    from common.ids import ReplicaId, TenantId
    from target_appliance.at_rest import AtRest
    from target_appliance.audit.event import Fact
    from target_appliance.retention.policy import Policy

_retention = typer.Typer(no_args_is_help=True, help="Which points are kept, and for how long.")

TenantName = Annotated[str, typer.Option("--tenant", metavar="NAME", help="The tenant.")]
ReplicaOption = Annotated[
    str | None, typer.Option("--replica", metavar="REPLICA", help="One replica, which then has rules of its own.")
]
_HELP = "last=N hourly=N daily=N weekly=N monthly=N yearly=N within=3d min-interval=15m"


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    _retention.command("set")(_set)
    _retention.command("show")(_show)
    _retention.command("clear")(_clear)
    app.add_typer(_retention, name="retention")


def _set(
    context: typer.Context,
    rules: Annotated[list[str] | None, typer.Argument(metavar="RULE…", help=f"Some of {_HELP}.")] = None,
    *,
    tenant: TenantName,
    replica: ReplicaOption = None,
    lock_days: Annotated[
        int | None,
        typer.Option("--lock-days", min=0, help="Nobody drops points that are committed from now on for so long."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Set the rules of a tenant, or of one replica; they replace those before. A point that one rule keeps stays.

    Locks are the tenant's, and never shortened: a lower number of days is for later points.
    """
    with edge(as_json=as_json):
        from common.errors import InvalidInputError  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.retention.policy import parse  # noqa: PLC0415

        policy = parse(rules or ()) if rules or lock_days is None else None
        if replica is not None and lock_days is not None:
            raise InvalidInputError(
                "locks are set for a tenant, not for a replica", subject="lock_days", next_step="leave --replica out"
            )
        config = configured(context)
        facts: dict[str, Fact] = {"rules": None if policy is None else str(policy), "lock_days": lock_days}
        about = f"tenant {tenant}" if replica is None else f"replica {replica}"
        with audited(config, "retention set", about, tenant, **facts):
            _changed(context, tenant, replica, policy, lock_days, clear=False)
        _told(context, tenant, replica, as_json=as_json)


def _clear(
    context: typer.Context,
    *,
    tenant: TenantName,
    replica: ReplicaOption = None,
    as_json: AsJson = False,
) -> None:
    """Take rules back: a tenant without rules keeps everything, a replica follows its tenant. Locks and holds stay."""
    with edge(as_json=as_json):
        from target_appliance.audit.commands import audited  # noqa: PLC0415

        config = configured(context)
        about = f"tenant {tenant}" if replica is None else f"replica {replica}"
        with audited(config, "retention clear", about, tenant):
            _changed(context, tenant, replica, None, None, clear=True)
        _told(context, tenant, replica, as_json=as_json)


def _show(
    context: typer.Context, *, tenant: TenantName, replica: ReplicaOption = None, as_json: AsJson = False
) -> None:
    """Show a tenant's rules and locks, the rules of its replicas, and what is held."""
    with edge(as_json=as_json):
        _told(context, tenant, replica, as_json=as_json)


def _changed(
    context: typer.Context,
    tenant: str,
    replica: str | None,
    policy: "Policy | None",
    lock_days: int | None,
    *,
    clear: bool,
) -> None:
    from target_appliance.at_rest import opened  # noqa: PLC0415
    from target_appliance.retention.keeper import Keeper  # noqa: PLC0415

    with opened(configured(context)) as held:
        (owner, only), keeper = _named(held, tenant, replica), Keeper(held.vault)
        if only is not None:
            keeper.set_replica(owner, only, policy)
        elif clear:
            keeper.clear_tenant(owner)
        else:
            keeper.set_tenant(owner, policy, lock_days)


def _named(held: "AtRest", tenant: str, replica: str | None) -> "tuple[TenantId, ReplicaId | None]":
    from common.ids import parse_tenant  # noqa: PLC0415

    if replica is None:
        return held.catalog.tenant(parse_tenant(tenant)).tenant, None
    row = held.find_replica(replica, tenant)
    return row.tenant, row.replica


def _told(context: typer.Context, tenant: str, replica: str | None, *, as_json: bool) -> None:
    from target_appliance.at_rest import opened  # noqa: PLC0415
    from target_appliance.retention import settings  # noqa: PLC0415

    with opened(configured(context)) as held:
        owner, only = _named(held, tenant, replica)
        store = held.vault.store
        of = settings.of_tenant(store, owner)
        names = {row.replica: row.vm_name for row in held.catalog.replicas(owner)}
        replicas = held.vault.replicas(owner) if only is None else (only,)
        found = [(one, settings.of_replica(store, owner, one)) for one in replicas]
    result: dict[str, Any] = {
        "tenant": owner,
        "policy": None if of.policy is None else str(of.policy),
        "lock_days": of.lock_days,
        "replicas": [
            {
                "replica": one,
                "vm": names.get(one),
                **own.members(),
                "policy": None if own.policy is None else str(own.policy),
            }
            for one, own in found
        ],
    }
    lines = [
        f"tenant {owner}: {of.policy or 'no rules, so everything is kept'}",
        f"locks of points that are committed now: {f'{of.lock_days} days' if of.lock_days else 'none'}",
    ]
    if of.policy and not of.policy.within:
        lines.append("note: without within=… a flood of points may push real ones out of last=…")
    rows = [
        (row["vm"] or "-", row["replica"], row["policy"] or "the tenant's", str(len(row["holds"])))
        for row in result["replicas"]
    ]
    lines += table(("vm", "replica", "rules", "holds"), rows) if rows else []
    emit(result, lines, as_json=as_json)

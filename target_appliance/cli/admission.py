"""``tenants suspend``, ``resume``, ``limit``, ``agents revoke``, ``operators add``: who may come in, and how much."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli_edge import edge, emit
from target_appliance.cli.options import AsJson, configured
from target_appliance.cli.pairing import agents
from target_appliance.cli.set_up import tenants

if TYPE_CHECKING:
    from target_appliance.catalog.model import TenantLimits, TenantRow

operators = typer.Typer(no_args_is_help=True, help="Operators of tenants, who read replicas back.")

_MIB, _GIB = 1 << 20, 1 << 30

Name = Annotated[str, typer.Argument(metavar="NAME", help="The tenant.")]
Gib = Annotated[int | None, typer.Option("--quota-gib", min=0, help="Of the store; 0 lifts the limit.")]
Vms = Annotated[int | None, typer.Option("--max-vms", min=0, help="Replicas; 0 lifts the limit.")]
Streams = Annotated[int | None, typer.Option("--max-streams", min=0, help="Disks at once; 0 lifts the limit.")]
Bandwidth = Annotated[
    int | None, typer.Option("--bandwidth-mib", min=0, help="MiB received a second; 0 lifts the limit.")
]


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    tenants.command("suspend")(_suspend)
    tenants.command("resume")(_resume)
    tenants.command("limit")(_limit)
    agents.command("revoke")(_revoke)
    operators.command("add")(_add_operator)
    app.add_typer(operators, name="operators")


def _suspend(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Let none of a tenant's certificates in, until resume; what runs ends within a minute.

    Its points stay, and can be verified and exported here.
    """
    with edge(as_json=as_json):
        from target_appliance.admission import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415

        config = configured(context)
        with audited(config, "tenants suspend", f"tenant {name}", name), opened(config) as admission:
            _show(admission.suspend(name), as_json=as_json)


def _resume(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Take a suspension back."""
    with edge(as_json=as_json):
        from target_appliance.admission import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415

        config = configured(context)
        with audited(config, "tenants resume", f"tenant {name}", name), opened(config) as admission:
            _show(admission.resume(name), as_json=as_json)


def _limit(
    context: typer.Context,
    name: Name,
    *,
    quota_gib: Gib = None,
    max_vms: Vms = None,
    max_streams: Streams = None,
    bandwidth_mib: Bandwidth = None,
    as_json: AsJson = False,
) -> None:
    """Set what a tenant may take, and show it; limits that are not named stay.

    A lower limit removes nothing: it refuses what would come on top.
    """
    with edge(as_json=as_json):
        from target_appliance.admission import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415

        def change(limits: "TenantLimits") -> "TenantLimits":
            return changed(limits, quota_gib, max_vms, max_streams, bandwidth_mib)

        config = configured(context)
        with audited(config, "tenants limit", f"tenant {name}", name), opened(config) as admission:
            _show(admission.limit(name, change), as_json=as_json)


def _revoke(
    context: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Its id, as tenants list shows it.")],
    as_json: AsJson = False,
) -> None:
    """Let an agent, or an operator, in no more, for good; what it runs ends within a minute."""
    with edge(as_json=as_json):
        from target_appliance.admission import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415

        config = configured(context)
        with audited(config, "agents revoke", f"agent {agent}") as told, opened(config) as admission:
            row = admission.revoke(agent)
            told.facts["of_tenant"] = row.tenant
        lines = [f"{row.role} {row.agent} of tenant {row.tenant} is revoked; the tenant's replicas stay"]
        emit({"agent": row.agent, "tenant": row.tenant, "revoked": row.revoked}, lines, as_json=as_json)


def _add_operator(
    context: typer.Context,
    name: Name,
    out: Annotated[
        Path,
        typer.Option("--out", metavar="FOLDER", help="Gets operator.crt, operator.key and ca.crt; made when missing."),
    ],
    as_json: AsJson = False,
) -> None:
    """Issue a certificate that lists and reads a tenant's replicas, in the clear, and changes nothing."""
    with edge(as_json=as_json):
        from target_appliance.admission import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415

        config = configured(context)
        with audited(config, "operators add", f"tenant {name}", name) as told, opened(config) as admission:
            identity = admission.add_operator(name, out)
            told.facts["operator"] = identity.agent
        result = {
            "tenant": identity.tenant,
            "operator": identity.agent,
            "not_after": identity.not_after.isoformat(),
            "certificate_file": str(out / "operator.crt"),
            "key_file": str(out / "operator.key"),
            "ca_file": str(out / "ca.crt"),
        }
        lines = [
            f"operator {identity.agent} of tenant {identity.tenant}, valid until {identity.not_after:%Y-%m-%d}",
            f"wrote {out / 'operator.crt'}, {out / 'operator.key'} (private) and {out / 'ca.crt'}",
            "next: copy them to the tenant's site, name them in [operator] of agent.toml, and remove operator.key here",
        ]
        emit(result, lines, as_json=as_json)


def changed(
    limits: "TenantLimits",
    quota_gib: int | None,
    max_vms: int | None,
    max_streams: int | None,
    bandwidth_mib: int | None,
) -> "TenantLimits":
    """``limits`` with what was named: 0 lifts one, None leaves it."""
    from target_appliance.catalog.model import TenantLimits  # noqa: PLC0415

    def new(value: int | None, unit: int, old: int | None) -> int | None:
        return old if value is None else value * unit or None

    return TenantLimits(
        quota_bytes=new(quota_gib, _GIB, limits.quota_bytes),
        max_vms=new(max_vms, 1, limits.max_vms),
        max_streams=new(max_streams, 1, limits.max_streams),
        bandwidth_bytes=new(bandwidth_mib, _MIB, limits.bandwidth_bytes),
    )


def _show(row: "TenantRow", *, as_json: bool) -> None:
    limits = row.limits
    lines = [f"tenant {row.tenant} is {'suspended' if row.suspended else 'let in'}"]
    lines += [
        f"{what}: {'no limit' if value is None else f'{value // unit}{name}'}"
        for what, value, unit, name in (
            ("quota", limits.quota_bytes, _GIB, " GiB"),
            ("VMs", limits.max_vms, 1, ""),
            ("streams", limits.max_streams, 1, ""),
            ("bandwidth", limits.bandwidth_bytes, _MIB, " MiB/s"),
        )
    ]
    emit({"tenant": row.tenant, "suspended": row.suspended, "limits": asdict(limits)}, lines, as_json=as_json)

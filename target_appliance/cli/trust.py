"""``tenants trust``: a tenant's own certificate authority."""

from pathlib import Path
from typing import Annotated

import typer

from common.cli_edge import edge, emit
from target_appliance.cli.options import AsJson, configured
from target_appliance.cli.set_up import tenants


def add_to(_app: typer.Typer) -> None:
    """Hang this command into the tree."""
    tenants.command("trust")(_trust)


def _trust(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tenant.")],
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", metavar="FILE", help="Certificates of the tenant's authority, PEM: root and what signs."
        ),
    ] = None,
    *,
    domain: Annotated[
        str | None,
        typer.Option("--domain", metavar="DOMAIN", help="Trust domain of its names; the appliance's if left out."),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Let the tenant's own authority vouch no more.")] = False,
    as_json: AsJson = False,
) -> None:
    """Let a tenant's own authority vouch for the tenant's agents and operators, and for nobody else's.

    Its certificates must bear spiffe://DOMAIN/tenant/NAME/agent/UUID; who comes with one registers itself. In place of
    what was given before. Works while the appliance serves.
    """
    with edge(as_json=as_json):
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.tenant_trust import distrust, entrust  # noqa: PLC0415

        config = configured(context)
        with audited(config, "tenants trust", f"tenant {name}", name, remove=remove) as said:
            told = distrust(config, name) if remove else entrust(config, name, bundle, domain)
            said.facts["authorities"] = len(told["authorities"])
        lines = [
            f"{one['sha256']} vouches for tenant {name}, until {one['not_after'][:10]}" for one in told["authorities"]
        ]
        lines += [] if lines else [f"the appliance's authority alone vouches for tenant {name}"]
        if told["authorities"]:
            lines.append(f"next: issue certificates for spiffe://{told['domain']}/tenant/{name}/agent/UUID")
        emit(told, lines, as_json=as_json)

"""``agents add``, and what it shares with ``tenants add``: a pairing line, printed."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from common.cli_edge import edge, emit, say
from target_appliance.cli.options import AsJson, configured

if TYPE_CHECKING:
    from target_appliance.config import ApplianceConfig

VALID: Final = 60
_DAY: Final = 24 * 60

agents = typer.Typer(no_args_is_help=True, help="Agents of tenants.")

Valid = Annotated[int, typer.Option("--valid", metavar="MINUTES", min=1, max=_DAY, help="How long the line counts.")]
Address = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="HOST:PORT", help="What the agent dials; default: the first of listen.names, same port."
    ),
]


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    agents.command("add")(_add)
    app.add_typer(agents, name="agents")


def _add(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose agent it will be.")],
    valid: Valid = VALID,
    address: Address = None,
    as_json: AsJson = False,
) -> None:
    """Print a pairing line for another agent of a tenant.

    The line is a secret that works once: hand it over on a channel you trust.
    """
    with edge(as_json=as_json):
        print_offer(configured(context), tenant, valid, address, may_be_new=False, as_json=as_json)


def print_offer(
    config: "ApplianceConfig", tenant: str, valid: int, address: str | None, *, may_be_new: bool, as_json: bool
) -> None:
    """Make a pairing line. It alone goes to standard output, what explains it to standard error."""
    from common.address import checked  # noqa: PLC0415
    from target_appliance.audit.commands import audited  # noqa: PLC0415
    from target_appliance.pairing import offer  # noqa: PLC0415

    dialled = None if address is None else checked(address, "argument --address")
    with audited(config, "tenants add" if may_be_new else "agents add", f"tenant {tenant}", tenant) as told:
        made = offer(config, tenant, valid, may_be_new=may_be_new, address=dialled)
        told.facts.update(agent=made.agent, valid_minutes=valid)
    if not as_json:
        if made.new:
            say(f"registered tenant {made.tenant}")
        say(f"agent {made.agent} may pair once, until {made.expires:%Y-%m-%d %H:%M} UTC, with this line (a secret):")
    emit(made.to_json(), [made.line.text()], as_json=as_json)
    if not as_json:
        say("next: hand it over on a channel you trust; at the source: source-agent --config FILE pair")

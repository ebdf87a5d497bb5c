"""Options that several commands share, and how a command gets at its configuration."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from common import log
from common.cli_edge import say
from common.errors import ConfigError, PreconditionError

if TYPE_CHECKING:
    from pathlib import Path

    from target_appliance.config import ApplianceConfig

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="NAME", help="Look at this tenant's replicas only.")]
ReplicaName = Annotated[
    str, typer.Argument(metavar="REPLICA", help="The replica's id, or the VM's name if only one bears it.")
]


def configured(context: typer.Context) -> "ApplianceConfig":
    """The configuration that ``--config`` names, with logging set up as it says.

    Raises:
        ConfigError: there is none, or it cannot be used.
    """
    from common.config import load  # noqa: PLC0415  pydantic is heavy, --help must be quick
    from target_appliance.config import ApplianceConfig  # noqa: PLC0415

    path: Path | None = context.obj
    if path is None:
        raise ConfigError(
            "no configuration was named", subject="config", next_step="give one with --config FILE before the command"
        )
    config = load(path, ApplianceConfig)
    log.configure(level=config.log.level, style=config.log.format)
    return config


def confirmed(wanted: str, what: str, *, yes: bool) -> None:
    """Return if the user means it: ``--yes``, or ``wanted`` typed once more.

    Raises:
        PreconditionError: he does not, or there is nobody to ask.
    """
    if yes:
        return
    say(f"This will {what}. Type {wanted} to go on:")
    if sys.stdin.readline().strip() != wanted:
        raise PreconditionError(
            "it was not confirmed, so nothing was done", subject="command", next_step=f"type {wanted}, or give --yes"
        )

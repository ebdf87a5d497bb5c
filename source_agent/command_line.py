"""What the ``source-agent`` commands have in common: the configuration that was named, and recurring options."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common import log
from common.errors import ConfigError

if TYPE_CHECKING:
    from source_agent.config import AgentConfig

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
VmName = Annotated[str, typer.Argument(metavar="VM", help="The VM's name, moref or instance UUID.")]


def configured(context: typer.Context) -> "AgentConfig":
    """The configuration of ``--config``; logging follows it from now on.

    Raises:
        ConfigError: none was named, or it cannot be used.
    """
    from common.config import load  # noqa: PLC0415
    from source_agent.config import AgentConfig  # noqa: PLC0415

    path: Path | None = context.obj
    if path is None:
        raise ConfigError(
            "no configuration was named", subject="config", next_step="give one with --config FILE before the command"
        )
    config = load(path, AgentConfig)
    log.configure(level=config.log.level, style=config.log.format)
    return config

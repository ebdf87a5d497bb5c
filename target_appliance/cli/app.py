"""The command line's tree. Each command's body stands in a module of its own and is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from common import runtime
from target_appliance.cli import (
    admission,
    apply_retention,
    audit,
    authority,
    configuration,
    drill,
    erase,
    evidence,
    failover,
    key_life,
    keys,
    pairing,
    points,
    present,
    recovery,
    replicas,
    retention,
    scrub,
    seed,
    set_up,
    space,
    trust,
)

app = typer.Typer(
    name="target-appliance",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Receives replicas of encrypted VMs and keeps them sealed under this site's own keys.",
    epilog="Exit codes: 0 done, 1 internal error, 2 wrong use or configuration, 3 refused, 4 not found, "
    "5 try again later, 6 stored bytes are damaged, 130 interrupted.",
)


@app.callback()
def _options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="The appliance's configuration (TOML).")
    ] = None,
) -> None:
    context.obj = config


for group in (
    set_up,
    pairing,
    admission,
    replicas,
    points,
    retention,
    apply_retention,
    recovery,
    present,
    drill,
    configuration,
    failover,
    scrub,
    space,
    seed,
    keys,
    key_life,
    erase,
    audit,
    evidence,
    authority,
    trust,
):
    group.add_to(app)


def main() -> None:
    """Run the command line of this process."""
    runtime.tune()
    app()

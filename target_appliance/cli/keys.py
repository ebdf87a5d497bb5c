"""``kms status``: a look at the KMS and the tenants' keys in it."""

import typer

from common.cli_edge import edge, emit, table
from common.errors import EXIT_OK, EXIT_TRY_LATER
from target_appliance.cli.options import AsJson, configured

_kms = typer.Typer(no_args_is_help=True, help="Look at the KMS.")


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.add_typer(_kms, name="kms")


@_kms.command("status")
def _status(context: typer.Context, as_json: AsJson = False) -> None:
    """Ask each KMS whether it works, and for the state of each tenant's key.

    Exit code 5 when one cannot be used.
    """
    with edge(as_json=as_json):
        from target_appliance.upkeep import kms_status  # noqa: PLC0415

        status = kms_status(configured(context))
        rows = [
            (str(key["tenant"]), key["kms"] or "default", key["kek"] or "none yet", key["state"] or "")
            for key in status.keys
        ]
        lines = [
            f"{status.default.name}: {status.default.trouble or 'ready'}",
            *(f"{name}: {one.trouble or f'{one.name} is ready'}" for name, one in status.named.items()),
            *table(("tenant", "kms", "key", "state"), rows),
        ]
        emit(status.to_json(), lines, as_json=as_json)
        raise typer.Exit(EXIT_OK if status.ready else EXIT_TRY_LATER)

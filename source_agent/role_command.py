"""``source-agent role``: the vCenter role that the agent's user needs, shown or made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from common.cli_edge import edge, emit, table
from common.clock import SystemClock
from common.errors import InvalidInputError
from source_agent.command_line import AsJson, configured
from source_agent.privileges import HOTADD, TRANSPORTS, Need, role

DEFAULT_NAME = "Keysapart source agent"

app = typer.Typer(no_args_is_help=True, help="The vCenter role that the agent's user needs.")

Transport = Annotated[str, typer.Option("--transport", metavar="|".join(TRANSPORTS), help="How the agent reads disks.")]


def _needs(transport: str) -> tuple[Need, ...]:
    if transport not in TRANSPORTS:
        raise InvalidInputError(
            f"there is no transport {transport!a}",
            subject="argument --transport",
            next_step=f"give one of {', '.join(TRANSPORTS)}",
        )
    return role(transport)


def _rows(needed: Sequence[Need]) -> list[str]:
    cells = [
        (one.privilege, one.place.value, one.purpose + (" (encrypted VMs)" if one.encrypted_only else ""))
        for one in needed
    ]
    return table(("privilege", "on", "to"), cells)


@app.command("show")
def _show(transport: Transport = HOTADD, as_json: AsJson = False) -> None:
    """Print the privileges, for those who make the role by hand; no vCenter is asked."""
    with edge(as_json=as_json):
        needed = _needs(transport)
        result = {
            "transport": transport,
            "privileges": [
                {
                    "privilege": one.privilege,
                    "on": one.place.value,
                    "purpose": one.purpose,
                    "encrypted_only": one.encrypted_only,
                }
                for one in needed
            ],
        }
        emit(result, _rows(needed), as_json=as_json)


@app.command("create")
def _create(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Option("--name", help="The role's name.")] = DEFAULT_NAME,
    transport: Annotated[
        str | None,
        typer.Option("--transport", metavar="|".join(TRANSPORTS), help="As the configuration says if left out."),
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="A user who may change roles, when the agent's own may not.")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option("--password-file", metavar="FILE", help="That user's password.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make the role at the vCenter, or bring the one of that name in step; grants it to nobody."""
    with edge(as_json=as_json):
        from source_agent.agent import open_vcenter  # noqa: PLC0415
        from source_agent.disk_read.choice import choose  # noqa: PLC0415
        from source_agent.disk_read.vddk.install import find_library  # noqa: PLC0415

        if (user is None) != (password_file is None):
            raise InvalidInputError(
                "--user and --password-file belong together",
                subject="argument --user",
                next_step="give both, or none to log in as the configuration says",
            )
        config = configured(context)
        if transport is None:
            reader = config.reader
            transport = choose(reader.transport, find_library(reader.vddk_dir), reader.vddk_dir).transport
        wanted = frozenset(one.privilege for one in _needs(transport))
        if user is not None:
            login = config.vcenter.model_copy(update={"user": user, "password_file": password_file})
            config = config.model_copy(update={"vcenter": login})
        vcenter = open_vcenter(config, SystemClock())
        try:
            change = vcenter.put_role(name, wanted)
        finally:
            vcenter.close()
        outcome = "made" if change.created else "changed" if change.added or change.removed else "unchanged"
        emit(
            {
                "role": name,
                "transport": transport,
                "outcome": outcome,
                "added": list(change.added),
                "removed": list(change.removed),
                "unknown": list(change.unknown),
            },
            [
                *(f"added {one}" for one in change.added),
                *(f"removed {one}" for one in change.removed),
                *(f"left out {one}, which this vCenter does not know" for one in change.unknown),
                f"role {name} {outcome}: grant it to the agent's user as docs/privileges.md says",
            ],
            as_json=as_json,
        )

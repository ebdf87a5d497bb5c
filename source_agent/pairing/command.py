"""``source-agent pair``: the line comes by argument, by standard input, or by a prompt that does not show it."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.cli_edge import edge, emit
from source_agent.command_line import AsJson, configured

if TYPE_CHECKING:
    from source_agent.config import AgentConfig


def pair(
    context: typer.Context,
    line: Annotated[
        str | None,
        typer.Argument(
            metavar="[LINE]",
            help="The pairing line. It is a secret, and arguments show in ps: leave it out to be asked for it, or give"
            " - to have it read from standard input.",
        ),
    ] = None,
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the key and certificate that are there, for good.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Pair this agent with a target appliance: make a key here, trade the line for a certificate.

    Writes the three files that [target] names, and changes nothing else.
    """
    with edge(as_json=as_json):
        config = configured(context)
        told = pair_with(config, _asked() if line is None else _read() if line == "-" else line, replace=replace)
        lines = [
            f"paired as agent {told['agent']} of tenant {told['tenant']}",
            f"certificate valid until {told['not_after'][:10]}, renewed by itself before",
            f"wrote {told['key_file']} (private), {told['certificate_file']} and {told['ca_file']}",
            "next: source-agent doctor, then source-agent sync VM",
        ]
        emit(told, lines, as_json=as_json)


def pair_with(config: "AgentConfig", text: str, *, replace: bool) -> dict[str, Any]:
    """Pair, and tell for ``--json`` what was made.

    Raises:
        KeysapartError: it was refused; no file was touched.
    """
    from common.clock import SystemClock  # noqa: PLC0415
    from common.hardening import harden  # noqa: PLC0415
    from common.pairing_line import parse  # noqa: PLC0415
    from common.tls import load_identity  # noqa: PLC0415
    from source_agent.agent import name_of  # noqa: PLC0415
    from source_agent.pairing import files as pair_files  # noqa: PLC0415
    from source_agent.pairing.enroll import enroll  # noqa: PLC0415

    harden()
    line, files = parse(text), config.target.files
    pair_files.require_room(files, replace=replace)
    paired = enroll(
        line,
        config.target.server_name,
        lambda authority: pair_files.require_same_target(files, authority, replace=replace),
    )
    pair_files.write(files, paired)
    identity = load_identity(files, SystemClock())
    tenant, agent = name_of(identity)
    return {
        "tenant": tenant,
        "agent": agent,
        "not_after": identity.not_after.isoformat(),
        "key_file": str(files.key),
        "certificate_file": str(files.certificate),
        "ca_file": str(files.ca),
        "authority_sha256": line.fingerprint.hex(),
    }


def _asked() -> str:
    if not sys.stdin.isatty():
        return _read()
    return str(typer.prompt("pairing line (not shown)", hide_input=True, err=True))


def _read() -> str:
    return sys.stdin.read(4096)

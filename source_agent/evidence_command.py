"""``source-agent evidence``: what the target must not hold, for the target's report."""

from pathlib import Path
from typing import Annotated

import typer

from common.cli_edge import edge, emit
from common.clock import SystemClock
from source_agent.command_line import AsJson, VmName, configured


def add_to(app: typer.Typer) -> None:
    """Hang this command into the tree."""
    app.command("evidence")(_evidence)


def _evidence(
    context: typer.Context,
    vm: VmName,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to make, for the target's operator.")],
    as_json: AsJson = False,
) -> None:
    """Write salted digests of the VM's key ids and key providers, so that the target can look for them unknowing.

    The target's operator gives the file to target-appliance evidence; keep its SHA-256, which the report repeats.
    """
    with edge(as_json=as_json):
        import hashlib  # noqa: PLC0415

        from common.private_file import write_file  # noqa: PLC0415
        from common.tls import load_identity  # noqa: PLC0415
        from source_agent.agent import agent_id, open_vcenter  # noqa: PLC0415
        from source_agent.evidence import sought_of, to_file  # noqa: PLC0415

        config, clock = configured(context), SystemClock()
        agent = agent_id(load_identity(config.target.files, clock))
        vcenter = open_vcenter(config, clock)
        try:
            members = sought_of(vcenter, vm, agent, clock)
        finally:
            vcenter.close()
        content = to_file(members)
        write_file(out, content)
        digest = hashlib.sha256(content).hexdigest()
        result = {
            "file": str(out),
            "sha256": digest,
            "replica": members["replica"],
            "key_ids": members["key_ids"],
            "key_providers": members["key_providers"],
            "patterns": len(members["patterns"]),
            "left_out": members["left_out"],
        }
        lines = [
            f"{out}: {members['key_ids']} key ids and {members['key_providers']} names of key providers,",
            f"in {len(members['patterns'])} forms; {members['left_out']} are too short to be looked for",
            f"SHA-256 {digest}",
        ]
        emit(result, lines, as_json=as_json)

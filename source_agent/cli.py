"""The ``source-agent`` command. Heavy imports stand inside the commands, so that ``--help`` is quick."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from common import runtime
from common.cli_edge import edge, emit, table
from common.clock import SystemClock
from common.errors import EXIT_OK, EXIT_REFUSED
from source_agent import evidence_command, recover_command, role_command
from source_agent.command_line import AsJson, VmName, configured
from source_agent.pairing import command as pairing_command

app = typer.Typer(
    name="source-agent",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Replicates VMs of this site's vCenter to a target appliance that shares no keys with it.",
    epilog="Exit codes: 0 done, 1 internal error, 2 wrong use or configuration, 3 refused, 4 not found, "
    "5 try again later, 130 interrupted.",
)

app.add_typer(role_command.app, name="role")
recover_command.add_to(app)
app.command("pair")(pairing_command.pair)
evidence_command.add_to(app)


@app.callback()
def _options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="The agent's configuration (TOML).")
    ] = None,
) -> None:
    context.obj = config


@app.command("inventory")
def _inventory(context: typer.Context, as_json: AsJson = False) -> None:
    """List the VMs that the login sees, with their disks, encryption and change tracking."""
    with edge(as_json=as_json):
        from source_agent.agent import open_vcenter  # noqa: PLC0415
        from source_agent.inventory import row  # noqa: PLC0415

        vcenter = open_vcenter(configured(context), SystemClock())
        try:
            rows = [row(vm) for vm in vcenter.vms()]
        finally:
            vcenter.close()
        lines = table(
            ("vm", "moref", "encrypted", "tracking", "snapshots", "disks", "GiB"),
            [
                (
                    one.name,
                    one.moref,
                    "yes" if one.encrypted else "no",
                    one.tracking,
                    str(one.snapshots),
                    str(len(one.disks)),
                    f"{one.capacity_bytes / (1 << 30):.1f}",
                )
                for one in rows
            ],
        )
        emit({"vms": [one.as_dict() for one in rows]}, lines, as_json=as_json)


@app.command("preflight")
def _preflight(context: typer.Context, vm: VmName, as_json: AsJson = False) -> None:
    """Check whether a VM can be replicated; nothing is touched. Exit code 3 when something forbids it."""
    with edge(as_json=as_json):
        from source_agent.agent import opened  # noqa: PLC0415
        from source_agent.preflight import Severity  # noqa: PLC0415
        from source_agent.replicate import findings  # noqa: PLC0415

        with opened(configured(context), SystemClock()) as agent:
            info = agent.vsphere.vm(vm)
            found = findings(agent, info)
            agent.target.describe(info.instance_uuid)
        refused = any(one.severity is Severity.REFUSE for one in found)
        verdict = "cannot be replicated" if refused else "can be replicated"
        emit(
            {"vm": info.name, "ready": not refused, "findings": [asdict(one) for one in found]},
            [*(f"{one.severity.value}: {one.sentence}: {one.remedy}" for one in found), f"{info.name} {verdict}"],
            as_json=as_json,
        )
        raise typer.Exit(EXIT_REFUSED if refused else EXIT_OK)


@app.command("plan")
def _plan(
    context: typer.Context,
    vm: VmName,
    *,
    full: Annotated[bool, typer.Option("--full", help="As a sync with --full would.")] = False,
    compare: Annotated[bool, typer.Option("--compare", help="As a sync with --compare would.")] = False,
    rpo_minutes: Annotated[
        float | None,
        typer.Option(
            "--rpo-minutes", min=0, help="Say whether points would stay younger than this; else than [[protect]] says."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a sync would do, why, and at what price; nothing is touched. Exit code 3 when it would be refused."""
    with edge(as_json=as_json):
        from source_agent.agent import opened  # noqa: PLC0415
        from source_agent.outlook import look_ahead  # noqa: PLC0415
        from source_agent.plan import requested_kind  # noqa: PLC0415
        from source_agent.schedule import tags  # noqa: PLC0415
        from source_agent.schedule.policy import rpo_of  # noqa: PLC0415

        requested = requested_kind(full=full, compare=compare)
        config = configured(context)
        policies = [section.policy() for section in config.protect]
        with opened(config, SystemClock()) as agent:
            rpo_seconds = None if rpo_minutes is None else rpo_minutes * 60
            if rpo_seconds is None and policies:
                tagged = agent.vsphere.tagged(tags.wanted(policies))
                rpo_seconds = rpo_of(vm, tags.bearing(agent.vsphere.placements(), tagged), policies)
            seen = look_ahead(agent, vm, requested=requested, rpo_seconds=rpo_seconds)
        emit(seen.as_json(), seen.lines(), as_json=as_json)
        raise typer.Exit(EXIT_OK if seen.ready else EXIT_REFUSED)


@app.command("doctor")
def _doctor(
    context: typer.Context,
    vms: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[VM]...",
            help="Only these; if left out, what [[protect]] selects, or else all that the login sees.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look for whatever may stand in a sync's way: agent, both sites, every VM. Exit code 3 when something blocks."""
    with edge(as_json=as_json):
        from source_agent.doctor import examine  # noqa: PLC0415

        report = examine(configured(context), SystemClock(), vms or [])
        emit(report.as_json(), report.lines(), as_json=as_json)
        raise typer.Exit(EXIT_OK if report.ready else EXIT_REFUSED)


@app.command("sync")
def _sync(
    context: typer.Context,
    vm: VmName,
    *,
    full: Annotated[bool, typer.Option("--full", help="Start a new chain: send everything that is not zero.")] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Read everything, whatever change tracking says; send what differs.")
    ] = False,
    accept_rollback: Annotated[
        bool,
        typer.Option("--accept-rollback", help="Go on although the target shows less than it committed before."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Replicate a VM once: snapshot, read what changed, send it, commit a point at the target."""
    with edge(as_json=as_json):
        from source_agent.agent import interruptible, opened  # noqa: PLC0415
        from source_agent.pairing.renewal import renew_before_sync  # noqa: PLC0415
        from source_agent.plan import requested_kind  # noqa: PLC0415
        from source_agent.progress import shown  # noqa: PLC0415
        from source_agent.replicate import sync_vm  # noqa: PLC0415

        requested = requested_kind(full=full, compare=compare)
        config = configured(context)
        renew_before_sync(config, SystemClock())
        parks = config.snapshot.park_seconds > 0
        with interruptible(parks=parks) as stop, opened(config, SystemClock(), stop=stop) as agent, shown() as progress:
            report = sync_vm(agent, vm, requested=requested, progress=progress, accept_rollback=accept_rollback)
        warnings = [f"warning: {text}" for text in report.warnings]
        emit(report.as_json(), [*warnings, report.sentence()], as_json=as_json)


@app.command("run")
def _run(context: typer.Context) -> None:
    """Keep the RPOs of all VMs that [[protect]] selects, until SIGTERM; SIGHUP reads the configuration again."""
    with edge(as_json=False):
        from source_agent.daemon.life import run  # noqa: PLC0415

        config = configured(context)
        run(context.obj, config, SystemClock())


@app.command("status")
def _status(context: typer.Context, as_json: AsJson = False) -> None:
    """Show every protected VM: newest point, age, RPO kept or missed and why, next run, progress."""
    with edge(as_json=as_json):
        from source_agent.daemon.ask import status_of  # noqa: PLC0415

        config = configured(context)
        document, lines = status_of(config.state_dir, SystemClock(), config.snapshot.park_seconds)
        emit(document, lines, as_json=as_json)


def main() -> None:
    """Run the command line of this process."""
    runtime.tune()
    app()

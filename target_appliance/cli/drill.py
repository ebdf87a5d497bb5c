"""``drill``: does a point boot?"""

from pathlib import Path
from typing import Annotated

import typer

from common.cli_edge import edge, emit
from common.errors import EXIT_OK, EXIT_REFUSED
from target_appliance.cli.options import AsJson, ReplicaName, Tenant, configured


def add_to(app: typer.Typer) -> None:
    """Hang the command into the tree."""
    app.command("drill")(_drill)


def _drill(  # noqa: PLR0917  a command's options
    context: typer.Context,
    replica: ReplicaName,
    point: Annotated[int | None, typer.Option("--point", metavar="N", help="A point; the newest if left out.")] = None,
    expect: Annotated[
        str, typer.Option("--expect", metavar="TEXT", help="What the guest says on its serial port when it is up.")
    ] = "login:",
    expect_picture: Annotated[
        Path | None,
        typer.Option("--expect-picture", metavar="FILE", help="Or its screen then, as an earlier drill took it."),
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", metavar="FILE", help="Write the last screen there, in the clear (PPM).")
    ] = None,
    within: Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long it may take.")] = "10m",
    firmware: Annotated[
        str | None, typer.Option("--firmware", metavar="KIND", help="bios or uefi; what the VM had if left out.")
    ] = None,
    accelerator: Annotated[
        str, typer.Option("--accelerator", metavar="KIND", help="auto (KVM where it works), kvm, or tcg (emulation).")
    ] = "auto",
    memory_mib: Annotated[int, typer.Option("--memory-mib", min=64, help="The guest's memory.")] = 2048,
    processors: Annotated[int, typer.Option("--processors", min=1, max=64, help="The guest's processors.")] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be started, and start nothing.")] = False,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Boot a point's live view under qemu, without a network, and write down in a signed result whether it came up.

    What the guest writes is held in memory, and gone afterwards. Exit code 3 when it did not come up.
    """
    with edge(as_json=as_json):
        from common.clock import SystemClock  # noqa: PLC0415
        from common.duration import typed  # noqa: PLC0415
        from common.errors import InvalidInputError  # noqa: PLC0415
        from common.ids import parse_point  # noqa: PLC0415
        from common.output_file import refuse_existing  # noqa: PLC0415
        from common.private_file import write_file  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.drill import picture as pictures  # noqa: PLC0415
        from target_appliance.drill.guest import Awaited  # noqa: PLC0415
        from target_appliance.drill.hold import firmware_of, hold, machine_of  # noqa: PLC0415
        from target_appliance.drill.machine import Accelerator, Firmware  # noqa: PLC0415
        from target_appliance.present.callers import Shown  # noqa: PLC0415

        for value, known, option in (
            (firmware or Firmware.BIOS, list(Firmware), "--firmware"),
            (accelerator, ["auto", *Accelerator], "--accelerator"),
        ):
            if value not in known:
                raise InvalidInputError(
                    f"{value[:20]!a} is no {option[2:]}", subject=option, next_step=f"give one of {', '.join(known)}"
                )
        tried = tuple(Accelerator) if accelerator == "auto" else (Accelerator(accelerator),)
        seconds = typed(within, "--timeout")
        if picture is not None:
            refuse_existing(picture)
        if expect_picture is None:
            awaited, told_as = Awaited(expect, None), f"serial port: {expect}"
        else:
            wanted = pictures.load(expect_picture)
            awaited = Awaited(None, lambda found: pictures.same(pictures.parse(found, "the screen"), wanted))
            told_as = "a screen"
        config, clock = configured(context), SystemClock()
        with opened(config) as held:
            row = held.find_replica(replica, tenant)
            shown = Shown(row.tenant, row.replica, parse_point(point if point is not None else row.newest or 0))
            record = held.vault.point(shown.tenant, shown.replica, shown.point)
            chosen = firmware_of(held.vault, record) if firmware is None else Firmware(firmware)
            machine = machine_of(record, chosen, memory_mib, processors)
            result = {"replica": row.replica, "point": shown.point, "disks": [disk.name for disk in machine.disks]}
            if dry_run:
                with audited(config, "drill", f"replica {row.replica}", row.tenant, point=shown.point, dry_run=True):
                    lines = [f"{disk.name} at {disk.controller} {disk.bus}:{disk.unit}" for disk in machine.disks]
                emit({**result, "dry_run": True}, lines, as_json=as_json)
                return
            with audited(config, "drill", f"replica {row.replica}", row.tenant, point=shown.point) as told:
                done = hold(
                    config,
                    held,
                    shown,
                    machine,
                    awaited,
                    told_as,
                    seconds=seconds,
                    accelerators=tried,
                    clock=clock,
                )
                told.facts["came_up"] = done.seen.came_up
        if picture is not None:
            write_file(picture, done.seen.picture)
        seen = done.seen
        result |= {
            "came_up": seen.came_up,
            "seconds": round(seen.seconds, 1),
            "accelerator": seen.accelerator.value,
            "result": str(done.document),
        }
        verdict = "came up" if seen.came_up else "did NOT come up"
        lines = [
            f"point {shown.point} of {row.vm_name} {verdict} in {seen.seconds:.1f} s ({seen.accelerator.value})",
            f"signed result: {done.document}",
        ]
        emit(result, lines, as_json=as_json)
        raise typer.Exit(EXIT_OK if seen.came_up else EXIT_REFUSED)

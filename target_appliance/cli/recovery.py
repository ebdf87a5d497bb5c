"""``verify`` and ``export``: is it all there, and give it back."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from common.cli_edge import edge, emit
from common.errors import EXIT_DAMAGED, EXIT_OK, EXIT_TRY_LATER
from target_appliance.cli.options import AsJson, ReplicaName, Tenant, configured

if TYPE_CHECKING:
    from target_appliance.audit.event import Fact
    from target_appliance.recovery.findings import Report

PointOption = Annotated[int | None, typer.Option("--point", metavar="N", help="A point; the newest if left out.")]


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.command("verify")(_verify)
    app.command("export")(_export)


def _verify(  # noqa: PLR0917  a command's options
    context: typer.Context,
    replica: ReplicaName,
    point: Annotated[
        int | None, typer.Option("--point", metavar="N", help="One point and all it stands on; all if left out.")
    ] = None,
    without_key: Annotated[
        bool, typer.Option("--without-key", help="Compare stored bytes with their digests only; needs no KMS.")
    ] = False,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Read what is stored of a replica, and check it against what was committed.

    Exit code 6 when something is damaged, 5 when something could not be read.
    """
    with edge(as_json=as_json):
        from common.ids import parse_point  # noqa: PLC0415
        from common.progress import counted  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415

        config = configured(context)
        with opened(config) as held:
            row = held.find_replica(replica, tenant)
            total = None if point is not None else row.stored_bytes
            about = f"replica {row.replica}"
            with (
                audited(config, "verify", about, row.tenant, with_key=not without_key) as told,
                counted(f"verify {row.vm_name}", total) as progress,
            ):
                report = held.vault.verify(
                    row.tenant,
                    row.replica,
                    with_key=not without_key,
                    point=None if point is None else parse_point(point),
                    progress=progress,
                    committed=[one.number for one in held.catalog.points(row.tenant, row.replica)],
                )
                told.facts.update(_verified(report))
                told.outcome = "DAMAGED" if report.damaged else "STORE" if report.unreachable else told.outcome
        emit(_report(report), _lines(report), as_json=as_json)
        raise typer.Exit(EXIT_DAMAGED if report.damaged else EXIT_TRY_LATER if report.unreachable else EXIT_OK)


def _verified(report: "Report") -> "dict[str, Fact]":
    """For the audit log, and so for evidence."""
    spans = {"first_point": min(report.points, default=None), "last_point": max(report.points, default=None)}
    return {
        **spans,
        "points": len(report.points),
        "bytes": report.bytes,
        "grains": report.grains,
        "findings": len(report.findings),
    }


def _report(report: "Report") -> dict[str, Any]:
    return {
        "replica": report.replica,
        "with_key": report.with_key,
        "points": list(report.points),
        "files": report.files,
        "bytes": report.bytes,
        "grains": report.grains,
        "damaged": report.damaged,
        "unreachable": report.unreachable,
        "findings": [
            {
                "kind": found.kind.value,
                "point": found.point,
                "disk": found.disk,
                "file": found.file,
                "first_byte": found.first,
                "last_byte": found.last,
                "grain": found.grain,
                "what": found.what,
                "affects": list(found.affects),
            }
            for found in report.findings
        ],
    }


def _lines(report: "Report") -> list[str]:
    read = f"{len(report.points)} points, {report.files} files, {report.bytes} bytes"
    opened = f", {report.grains} grains opened" if report.with_key else ", without the key"
    if not report.findings:
        return [f"replica {report.replica} is what was committed: {read}{opened}"]
    verdict = "is DAMAGED" if report.damaged else "could not be read in full"
    return [*(str(found) for found in report.findings), f"replica {report.replica} {verdict}: {read}{opened}"]


def _export(  # noqa: PLR0917  a command's options
    context: typer.Context,
    replica: ReplicaName,
    disk: Annotated[int, typer.Option("--disk", metavar="KEY", help="The disk's key; points lists them.")],
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="The file to make. It will hold plaintext.")],
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="raw, flat, sparse or stream (the last three are VMDK).")
    ] = "raw",
    point: PointOption = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """Write a disk as it was at a point to a file in the clear, readable by its owner only."""
    with edge(as_json=as_json):
        from common.errors import InvalidInputError  # noqa: PLC0415
        from common.ids import parse_disk_key, parse_point  # noqa: PLC0415
        from common.progress import counted  # noqa: PLC0415
        from target_appliance.at_rest import opened  # noqa: PLC0415
        from target_appliance.audit.commands import audited  # noqa: PLC0415
        from target_appliance.recovery.export.forms import Form  # noqa: PLC0415

        if form not in set(Form):
            raise InvalidInputError(
                f"{form!r} is not a format", subject="format", next_step=f"give one of {', '.join(Form)}"
            )
        key = parse_disk_key(disk)
        config = configured(context)
        with opened(config) as held:
            row = held.find_replica(replica, tenant)
            number = parse_point(point if point is not None else row.newest or 0)
            record = held.vault.point(row.tenant, row.replica, number)
            found = record.disk(key)
            capacity = found.spec.capacity_bytes if found else None
            about = f"replica {row.replica}"
            with (
                audited(config, "export", about, row.tenant, point=number, disk=key, form=form),
                counted(f"export disk {key}", capacity) as progress,
            ):
                files = held.vault.export(
                    row.tenant, row.replica, key, number, form=Form(form), path=out, progress=progress
                )
        result = {
            "replica": row.replica,
            "point": number,
            "disk": key,
            "format": form,
            "capacity_bytes": capacity,
            "files": [str(path) for path in files],
        }
        lines = [f"disk {key} at point {number}: {' and '.join(str(path) for path in files)}, in the clear"]
        emit(result, lines, as_json=as_json)

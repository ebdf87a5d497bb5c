"""``replicas``, ``points`` and ``fetch``: what the target holds, read back with an operator's certificate."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from common.cli_edge import edge, emit, table
from common.clock import SystemClock
from common.errors import ConfigError
from source_agent.command_line import AsJson, configured

if TYPE_CHECKING:
    from source_agent.recover.archive import Archive

Replica = Annotated[str, typer.Argument(metavar="VM", help="The VM's name at its newest sync, or its instance UUID.")]

_KINDS = {1: "full", 2: "delta", 3: "compare"}


def add_to(app: typer.Typer) -> None:
    """Hang these commands into the tree."""
    app.command("replicas")(_replicas)
    app.command("points")(_points)
    app.command("fetch")(_fetch)


def _replicas(context: typer.Context, as_json: AsJson = False) -> None:
    """List the replicas that the target holds for this tenant."""
    with edge(as_json=as_json), _opened(context) as archive:
        found = archive.replicas()
        rows = [
            {
                "vm": one.vm_name,
                "replica": one.replica,
                "points": one.points,
                "newest": one.newest or None,
                "newest_time": _time(one.newest_time_seconds) if one.newest else None,
                "stored_bytes": one.stored_bytes,
            }
            for one in found
        ]
        cells = [
            (one.vm_name, one.replica, str(one.points), _time(one.newest_time_seconds) if one.newest else "-")
            for one in found
        ]
        emit({"replicas": rows}, table(("vm", "replica", "points", "newest"), cells), as_json=as_json)


def _points(context: typer.Context, vm: Replica, as_json: AsJson = False) -> None:
    """List the points that the target holds of a VM, with their disks."""
    with edge(as_json=as_json), _opened(context) as archive:
        found = archive.points(archive.find(vm))
        rows = [
            {
                "point": one.number,
                "time": _time(one.time_seconds),
                "kind": _KINDS.get(one.kind, "unknown"),
                "disks": [{"disk": disk.key, "label": disk.label, "bytes": disk.capacity_bytes} for disk in one.disks],
            }
            for one in found
        ]
        cells = [
            (
                str(one.number),
                _time(one.time_seconds),
                _KINDS.get(one.kind, "unknown"),
                str(disk.key),
                f"{disk.capacity_bytes / (1 << 30):.1f}",
            )
            for one in found
            for disk in one.disks
        ]
        emit({"vm": vm, "points": rows}, table(("point", "time", "kind", "disk", "GiB"), cells), as_json=as_json)


def _fetch(
    context: typer.Context,
    vm: Replica,
    *,
    disk: Annotated[int, typer.Option("--disk", metavar="KEY", help="Device key, as points shows it.")],
    out: Annotated[Path, typer.Option("--out", metavar="PATH", help="A new file; it will hold the disk in the clear.")],
    point: Annotated[int | None, typer.Option("--point", min=1, help="Default: the newest.")] = None,
    as_json: AsJson = False,
) -> None:
    """Read a disk as it was at a point from the target into a raw file here."""
    with edge(as_json=as_json), _opened(context) as archive:
        from common.progress import counted  # noqa: PLC0415
        from source_agent.recover.fetch import choose, fetch  # noqa: PLC0415

        wanted = choose(archive, vm, disk, point)
        with counted("fetch", wanted.capacity_bytes) as progress:
            written = fetch(archive, wanted, out, progress)
        result = {
            "replica": wanted.replica,
            "point": wanted.point,
            "disk": disk,
            "file": str(out),
            "bytes_written": written,
        }
        line = f"wrote {out}: disk {disk} of {vm} at point {wanted.point}, in the clear"
        emit(result, [line], as_json=as_json)


@contextmanager
def _opened(context: typer.Context) -> "Iterator[Archive]":
    from common.hardening import harden  # noqa: PLC0415
    from common.tls import TlsFiles, load_identity  # noqa: PLC0415
    from source_agent.recover.archive import Archive  # noqa: PLC0415

    config = configured(context)
    if config.operator is None:
        raise ConfigError(
            "the configuration has no table [operator], and the agent's own certificate reads nothing back",
            subject="config operator",
            next_step="put a certificate there that target-appliance operators add issued",
        )
    harden()
    files = TlsFiles(config.target.ca_file, config.operator.certificate_file, config.operator.key_file)
    identity = load_identity(files, SystemClock())
    with Archive(config.target.address, identity, config.target.server_name) as archive:
        yield archive


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()

"""``make bench``: all contestants in one run on one machine, a table and a JSON file of what they did."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from benchmarks import bare_pipe, peer_nbd, peer_restic
from benchmarks.disk import data_extents, delta, write_disk
from benchmarks.figures import MIB, Bar, Result, Row
from benchmarks.ours import SyncFigures, site
from common.grain import GRAIN_BYTES

_RESULTS = Path(__file__).parent / "results"
_WRITES = 640
_RSS_CEILING = 400.0

T = TypeVar("T")


def main(
    *,
    quick: Annotated[bool, typer.Option(help="A disk of 256 MiB: whether it runs, not how fast it is.")] = False,
    large: Annotated[bool, typer.Option(help="Also a disk four times as large, for peak memory (ours only).")] = False,
    ours_only: Annotated[bool, typer.Option(help="Leave the peers out.")] = False,
    peers_only: Annotated[bool, typer.Option(help="Leave our own side out.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Repeat each full copy; the median counts.")] = 1,
    work: Annotated[Path | None, typer.Option(help="Where files go; default: memory (/dev/shm).")] = None,
) -> None:
    """Measure, print, write benchmarks/results/TIME.json; exit code 1 when a promise was not kept."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    result = Result(disk_mib=256 if quick else 2048)
    with tempfile.TemporaryDirectory(prefix="keysapart-bench-", dir=work or _memory()) as folder:
        top = Path(folder)
        disk = top / "disk.raw"
        write_disk(disk, result.disk_mib)
        data_bytes = sum(length for _, length in data_extents(disk))
        if not peers_only:
            _ours(result, top, disk, data_bytes, rounds)
        if not ours_only:
            _peers(result, top, disk, data_bytes, rounds)
        if large and not peers_only:
            disk.unlink()
            _large(result, top)
    result.bars = _bars(result)
    result.show(console)
    console.print(f"written: {result.write(_RESULTS)}")
    raise typer.Exit(0 if quick or all(bar.kept for bar in result.bars) else 1)


def _memory() -> Path | None:
    memory = Path("/dev/shm")
    return memory if os.access(memory, os.W_OK) else None


def _ours(result: Result, top: Path, disk: Path, data_bytes: int, rounds: int) -> None:
    work = _fresh(top, "ours")
    with site(work, result.disk_mib) as running:
        running.disk.load(disk)
        fulls = [running.sync("--full") for _ in range(rounds)]
        result.rows += _rows("full", _median(fulls, key=lambda one: one.seconds), data_bytes)
        changed = 0
        for offset, data in delta(result.disk_mib, _writes(result)):
            running.disk.write(offset, data)
            changed += len(data)
        result.rows += _rows("delta", running.sync(), changed)
    shutil.rmtree(work)


def _rows(job: str, figures: SyncFigures, data_bytes: int) -> list[Row]:
    """The command as a whole, and the sync within it."""
    if figures.report["kind"] != job:
        raise RuntimeError(f"this should have been a {job} sync: {figures.report}")
    whole = Row(
        job,
        "keysapart (whole command)",
        figures.seconds,
        data_bytes,
        wire_bytes=figures.wire_bytes,
        sender_peak_bytes=figures.agent_peak_bytes,
        receiver_peak_bytes=figures.appliance_peak_bytes,
        stored_bytes=figures.report["stored_bytes"],
    )
    sync = Row(job, "keysapart (sync)", figures.report["seconds"], data_bytes, wire_bytes=figures.report["bytes_sent"])
    return [whole, sync]


def _peers(result: Result, top: Path, disk: Path, data_bytes: int, rounds: int) -> None:
    pipes = [bare_pipe.send_all(disk, _fresh(top, "pipe")) for _ in range(rounds)]
    pipe = _median(pipes, key=lambda one: one.seconds)
    result.rows.append(
        Row(
            "full",
            "bare gRPC pipe",
            pipe.seconds,
            data_bytes,
            pipe.wire_bytes,
            pipe.client_peak_bytes,
            pipe.server_peak_bytes,
        )
    )
    copies = [peer_nbd.copy_full(disk, _fresh(top, "nbd")) for _ in range(rounds)]
    nbd = _median(copies, key=lambda one: one.seconds)
    result.rows.append(
        Row(
            "full",
            "nbdcopy into LUKS",
            nbd.seconds,
            data_bytes,
            nbd.wire_bytes,
            nbd.client_peak_bytes,
            nbd.server_peak_bytes,
            nbd.stored_bytes,
        )
    )
    shutil.rmtree(top / "nbd")
    writes = _writes(result)

    def change() -> None:
        with disk.open("r+b") as file:
            for offset, data in delta(result.disk_mib, writes):
                file.seek(offset)
                file.write(data)

    restic = peer_restic.backup_twice(disk, _fresh(top, "restic"), change)
    result.rows.append(
        Row("full", "restic (local)", restic.full_seconds, data_bytes, sender_peak_bytes=restic.full_peak_bytes)
    )
    result.rows.append(
        Row(
            "delta",
            "restic (local)",
            restic.delta_seconds,
            writes * GRAIN_BYTES,
            sender_peak_bytes=restic.delta_peak_bytes,
            stored_bytes=restic.delta_stored_bytes,
        )
    )


def _large(result: Result, top: Path) -> None:
    work = _fresh(top, "large")
    disk = top / "large.raw"
    mib = 4 * result.disk_mib
    write_disk(disk, mib)
    data_bytes = sum(length for _, length in data_extents(disk))
    with site(work, mib) as running:
        running.disk.load(disk)
        disk.unlink()
        whole, _ = _rows("full", running.sync(), data_bytes)
    result.rows.append(whole.named(f"full, {mib} MiB"))
    shutil.rmtree(work)


def _writes(result: Result) -> int:
    return _WRITES * result.disk_mib // 2048


def _fresh(top: Path, name: str) -> Path:
    folder = top / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _median(values: list[T], key: Callable[[T], float]) -> T:
    return sorted(values, key=key)[len(values) // 2]


def _bars(result: Result) -> list[Bar]:
    seconds = {(row.job, row.contestant): row.seconds for row in result.rows}
    full, delta_sync = seconds.get(("full", "keysapart (sync)")), seconds.get(("delta", "keysapart (sync)"))
    nbd, pipe = seconds.get(("full", "nbdcopy into LUKS")), seconds.get(("full", "bare gRPC pipe"))
    restic = seconds.get(("delta", "restic (local)"))
    bars = []
    if full and nbd:
        bars.append(Bar("full sync: times as fast as nbdcopy into LUKS, at least 3", nbd / full, floor=3))
    if full and pipe:
        bars.append(Bar("full sync: per cent of the bare pipe's rate, at least 40", 100 * pipe / full, floor=40))
    if delta_sync and restic:
        bars.append(Bar("delta sync: times as fast as restic, at least 10", restic / delta_sync, floor=10))
    for row in result.rows:
        if row.contestant == "keysapart (whole command)":
            peak = max(row.sender_peak_bytes or 0, row.receiver_peak_bytes or 0) / MIB
            bars.append(Bar(f"{row.job}: MiB of memory of the larger process, below 400", peak, ceiling=_RSS_CEILING))
    return bars


if __name__ == "__main__":
    typer.run(main)

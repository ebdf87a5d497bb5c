"""``make bench``: all contestants in one run on one machine, a table and a JSON file of what they did."""

import contextlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.contest import Contest, rows
from benchmarks.disk import data_extents, write_disk
from benchmarks.figures import MIB, Bar, Result, memory
from benchmarks.ours import site

_RESULTS = Path(__file__).parent / "results"
_RSS_CEILING = 400.0


def main(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A disk of 256 MiB: whether it runs, not how fast.")] = False,
    large: Annotated[bool, typer.Option("--large", help="Also a disk four times as large, for peak memory.")] = False,
    ours_only: Annotated[bool, typer.Option("--ours-only", help="Leave the peers out.")] = False,
    peers_only: Annotated[bool, typer.Option("--peers-only", help="Leave our own side out.")] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Repeat everything so often; each one's best time counts.")] = 1,
    work: Annotated[Path | None, typer.Option(help="Where files go; default: memory (/dev/shm).")] = None,
) -> None:
    """Measure, print, write benchmarks/results/TIME.json; exit code 1 when a promise was not kept."""
    console = Console(width=None if sys.stdout.isatty() else 150)
    result = Result(disk_mib=256 if quick else 2048)
    with tempfile.TemporaryDirectory(prefix="keysapart-bench-", dir=work or memory()) as folder:
        top = Path(folder)
        contest = Contest(top, result.disk_mib)
        with contextlib.ExitStack() as running:
            if not peers_only:
                contest.enter(running)
            for number in range(rounds):
                if not peers_only:
                    contest.ours(number)
                if not ours_only:
                    contest.peers(number)
        result.rows += contest.best()
        if large and not peers_only:
            shutil.rmtree(top)
            top.mkdir()
            _large(result, top)
    result.bars = _bars(result)
    result.show(console)
    console.print(f"written: {result.write(_RESULTS)}")
    raise typer.Exit(0 if quick or all(bar.kept for bar in result.bars) else 1)


def _large(result: Result, top: Path) -> None:
    disk = top / "large.raw"
    mib = 4 * result.disk_mib
    write_disk(disk, mib)
    data_bytes = sum(length for _, length in data_extents(disk))
    with site(top, mib) as running:
        running.disk.load(disk)
        disk.unlink()
        whole, _ = rows("full", running.sync(), data_bytes)
    result.rows.append(whole.named(f"full, {mib} MiB"))


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
    compare = next((row for row in result.rows if (row.job, row.contestant) == ("compare", "keysapart (sync)")), None)
    hashed = seconds.get(("compare", "read and hash, no more"))
    if compare and hashed:
        bars.append(
            Bar("compare: times as long as to read and hash, at most 1.3", compare.seconds / hashed, ceiling=1.3)
        )
        sent = (compare.wire_bytes or 0) / compare.data_bytes
        bars.append(Bar("compare: bytes sent per byte that changed, at most 1.1", sent, ceiling=1.1))
    export, live = seconds.get(("read back", "keysapart export")), seconds.get(("read back", "nbdcopy, live view"))
    if export and live:
        bars.append(Bar("live view: per cent of the export's speed, at least 60", 100 * export / live, floor=60))
    for row in result.rows:
        if row.contestant == "keysapart (whole command)":
            peak = max(row.sender_peak_bytes or 0, row.receiver_peak_bytes or 0) / MIB
            bars.append(Bar(f"{row.job}: MiB of memory of the larger process, below 400", peak, ceiling=_RSS_CEILING))
    return bars


if __name__ == "__main__":
    typer.run(main)

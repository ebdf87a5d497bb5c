"""What a run of the benchmarks found, as a table for people and as JSON for later comparison."""

import dataclasses
import datetime as dt
import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.table import Table

MIB = 1 << 20


@dataclass(frozen=True)
class Row:
    """One contestant's figures for one job; what it cannot tell is None."""

    job: str
    contestant: str
    seconds: float
    data_bytes: int
    """Bytes of the disk that the job had to move: non-zero ones for a full copy, written ones for a delta."""
    wire_bytes: int | None = None
    sender_peak_bytes: int | None = None
    receiver_peak_bytes: int | None = None
    stored_bytes: int | None = None
    processor_seconds: float | None = None
    """Of both ends together: what a busy machine does not distort."""

    @property
    def rate(self) -> float:
        """Disk bytes per second, in MiB."""
        return self.data_bytes / MIB / self.seconds

    def named(self, job: str) -> Self:
        """The same figures for another job."""
        return dataclasses.replace(self, job=job)


@dataclass(frozen=True)
class Bar:
    """A promise of README, and whether this run kept it."""

    promise: str
    measured: float
    floor: float | None = None
    ceiling: float | None = None

    @property
    def kept(self) -> bool:
        """Within its floor and ceiling."""
        above = self.floor is None or self.measured >= self.floor
        return above and (self.ceiling is None or self.measured <= self.ceiling)


@dataclass
class Result:
    """A whole run."""

    disk_mib: int
    rows: list[Row] = field(default_factory=list)
    bars: list[Bar] = field(default_factory=list)

    def write(self, folder: Path) -> Path:
        """A new file in ``folder``, named by time."""
        now = dt.datetime.now(dt.UTC)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{now:%Y-%m-%dT%H%M%SZ}.json"
        path.write_text(json.dumps(self._as_dict(now), indent=2) + "\n")
        return path

    def _as_dict(self, now: dt.datetime) -> dict[str, Any]:
        return {
            "time": now.isoformat(timespec="seconds"),
            "machine": {"processor": processor(), "cores": os.cpu_count(), "python": platform.python_version()},
            "disk_mib": self.disk_mib,
            "rows": [dataclasses.asdict(row) | {"mib_per_second": round(row.rate, 1)} for row in self.rows],
            "bars": [dataclasses.asdict(bar) | {"kept": bar.kept} for bar in self.bars],
        }

    def show(self, console: Console) -> None:
        """Both tables."""
        table = Table(title=f"{self.disk_mib} MiB disk, {os.cpu_count()} cores, {processor()}")
        for heading in ("job", "who"):
            table.add_column(heading)
        for heading in (
            "seconds",
            "cpu seconds",
            "MiB/s of data",
            "MiB on loopback",
            "sender RSS",
            "receiver RSS",
            "MiB stored",
        ):
            table.add_column(heading, justify="right")
        for row in self.rows:
            sizes = (row.wire_bytes, row.sender_peak_bytes, row.receiver_peak_bytes, row.stored_bytes)
            shown = ("-" if size is None else f"{size / MIB:,.0f}" for size in sizes)
            cpu = "-" if row.processor_seconds is None else f"{row.processor_seconds:.2f}"
            table.add_row(row.job, row.contestant, f"{row.seconds:.2f}", cpu, f"{row.rate:,.0f}", *shown)
        console.print(table)
        if self.bars:
            bars = Table("promise", "measured", "kept", title="Promises")
            for bar in self.bars:
                bars.add_row(bar.promise, f"{bar.measured:.2f}", "yes" if bar.kept else "[bold red]no[/]")
            console.print(bars)


def memory() -> Path | None:
    """A file system in memory, where there is one."""
    shared = Path("/dev/shm")
    return shared if os.access(shared, os.W_OK) else None


def processor() -> str:
    """The machine's, in its maker's words."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()

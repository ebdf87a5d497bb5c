"""What a person sees while a sync runs: bars on a terminal, a line now and then elsewhere. Always standard error."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import rich.progress
from rich.console import Console

from source_agent.disk_sync import DiskTask
from source_agent.pipeline import DiskCount

_TICK_SECONDS: Final = 0.2
_LINE_SECONDS: Final = 5.0
_MIB: Final = 1 << 20


class Progress(Protocol):
    """What a sync tells of itself."""

    def say(self, text: str) -> None:
        """A step, in words."""
        ...

    def disk(self, task: DiskTask, total_bytes: int, count: DiskCount) -> None:
        """A disk begins: so many bytes will be read, and ``count`` grows while they are."""
        ...


@dataclass(frozen=True)
class _Row:
    task: DiskTask
    total: int
    count: DiskCount


class LineProgress:
    """Plain lines: each step, and every five seconds how far each disk is."""

    def __init__(self) -> None:
        self._rows: list[_Row] = []
        self._said: dict[int, int] = {}

    def say(self, text: str) -> None:
        """See Progress."""
        sys.stderr.write(text + "\n")

    def disk(self, task: DiskTask, total_bytes: int, count: DiskCount) -> None:
        """See Progress."""
        self._rows.append(_Row(task, total_bytes, count))

    def tick(self) -> None:
        """A line for each disk that moved since the last."""
        for row in tuple(self._rows):
            done = row.count.bytes_read - row.count.bytes_again
            if self._said.get(row.task.disk.key) != done:
                self._said[row.task.disk.key] = done
                self.say(f"disk {row.task.disk.key}: {done // _MIB} of {row.total // _MIB} MiB read")


class BarProgress:
    """Bars, drawn by rich."""

    def __init__(self, console: Console) -> None:
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}"),
            rich.progress.BarColumn(),
            rich.progress.DownloadColumn(binary_units=True),
            rich.progress.TransferSpeedColumn(),
            rich.progress.TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
        )
        self._rows: list[tuple[rich.progress.TaskID, _Row]] = []

    def say(self, text: str) -> None:
        """See Progress."""
        self._bars.console.print(text, markup=False, highlight=False)

    def disk(self, task: DiskTask, total_bytes: int, count: DiskCount) -> None:
        """See Progress."""
        bar = self._bars.add_task(f"{task.disk.label} {task.plan.kind.value}", total=total_bytes)
        self._rows.append((bar, _Row(task, total_bytes, count)))

    def tick(self) -> None:
        """Redraw."""
        for bar, row in tuple(self._rows):
            self._bars.update(bar, completed=row.count.bytes_read - row.count.bytes_again)
        self._bars.refresh()

    def start(self) -> None:
        """Take the terminal's last lines."""
        self._bars.start()

    def stop(self) -> None:
        """Leave the terminal as it is."""
        self.tick()
        self._bars.stop()


@contextmanager
def shown() -> Iterator[Progress]:
    """Progress for the length of the block, in the form that standard error can show."""
    console = Console(stderr=True)
    if not console.is_terminal:
        lines = LineProgress()
        with _ticking(lines.tick, _LINE_SECONDS):
            yield lines
        return
    bars = BarProgress(console)
    bars.start()
    try:
        with _ticking(bars.tick, _TICK_SECONDS):
            yield bars
    finally:
        bars.stop()


class _Tick(Protocol):
    def __call__(self) -> None: ...


@contextmanager
def _ticking(tick: _Tick, seconds: float) -> Iterator[None]:
    over = threading.Event()

    def run() -> None:
        while not over.wait(seconds):
            tick()

    thread = threading.Thread(target=run, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

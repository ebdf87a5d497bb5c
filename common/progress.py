"""How far a long command is, in bytes: a bar on a terminal, a line every five seconds elsewhere; standard error."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import rich.progress
from rich.console import Console

from common.clock import Clock, SystemClock

_LINE_SECONDS: Final = 5.0
_MIB: Final = 1 << 20


@contextmanager
def counted(label: str, total_bytes: int | None) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of bytes done since its last call, from one thread at a time.

    Args:
        label: what is done, such as ``verify``.
        total_bytes: what the numbers will add up to; None when that is not known.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(label, total_bytes, SystemClock())
        return
    with rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(binary_units=True),
        rich.progress.TransferSpeedColumn(),
        rich.progress.TimeRemainingColumn(),
        console=console,
    ) as bars:
        task = bars.add_task(label, total=total_bytes)
        yield lambda count: bars.update(task, advance=count)


class _Lines:
    def __init__(self, label: str, total_bytes: int | None, clock: Clock) -> None:
        self._clock = clock
        self._label = label
        self._of = "" if total_bytes is None else f" of {total_bytes // _MIB}"
        self._done = 0
        self._next = self._clock.monotonic() + _LINE_SECONDS

    def __call__(self, count: int) -> None:
        self._done += count
        if self._clock.monotonic() >= self._next:
            self._next = self._clock.monotonic() + _LINE_SECONDS
            sys.stderr.write(f"{self._label}: {self._done // _MIB}{self._of} MiB\n")

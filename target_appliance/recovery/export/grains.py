"""What an export reads: every grain of a disk that is not zeros, in order, opened on a few threads."""

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from common.grain import GRAIN_BYTES, ZERO_GRAIN
from target_appliance.recovery.chain import DiskView
from target_appliance.recovery.findings import Progress
from target_appliance.recovery.ordered import ordered_map
from target_appliance.seal.fold import Window

_WINDOW_GRAINS: Final = 64

Made = TypeVar("Made")


class Counted:
    """Turns places on the disk into progress."""

    def __init__(self, capacity_bytes: int, progress: Progress) -> None:
        self._capacity = capacity_bytes
        self._progress = progress
        self._done = 0

    def reached(self, offset: int) -> None:
        """All up to here is done."""
        offset = min(offset, self._capacity)
        self._progress(offset - self._done)
        self._done = offset

    def finished(self) -> None:
        """All of the disk is."""
        self.reached(self._capacity)


def grains(view: DiskView, counted: Counted, make: Callable[[int, bytes], Made]) -> Iterator[tuple[int, Made]]:
    """Every grain that is not zeros, rising, as ``make`` turns it on some other thread."""

    def work(window: Window) -> list[tuple[int, Made]]:
        return [
            (window.first + place, make(window.first + place, data))
            for place, data in enumerate(view.load(window))
            if data is not None and data != ZERO_GRAIN
        ]

    for window, made in ordered_map(work, view.windows(_WINDOW_GRAINS)):
        yield from made
        counted.reached((window.first + len(window.layers)) * GRAIN_BYTES)

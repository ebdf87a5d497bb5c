"""Which dropped points to merge now: a rule over sizes. Pure.

A merge is worth it when it gives back at least half of what it writes: since only bytes that a sync once sent can be
given back, all such merges together write at most twice what was ever sent, and dead bytes stay below half of the rest.
That leaves long runs of small points of which little is dead. Of these, FAN at a time become one, when no single one
outweighs the others; each byte is written once more per FAN-fold growth of the number of points in one folder.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.ids import DiskKey, PointNumber
from target_appliance.vmdk.layout import empty_bytes

FAN: Final = 32
"""So many points of equal age become one."""
WORTH: Final = 2
"""Bytes that may be written for one that is given back."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a merge writes, and by how much the store is smaller afterwards, both in bytes."""

    written: int = 0
    freed: int = 0

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.written + other.written, self.freed + other.freed)


@dataclass(frozen=True, slots=True)
class Slot:
    """One extent's place in a run of points, lowest first. Arrays have a row per point."""

    files: tuple[int, ...]
    """Bytes of each point's file; 0 for none."""
    capacities: tuple[int, ...]
    alone: tuple[bool, ...]
    """The extent is the whole disk, its descriptor inside, which names what the disk stands on."""
    grains: tuple[int, ...]
    """Grains that each holds, zeros included."""
    held: NDArray[np.int64]
    """Bytes of the records of a point (row) that are held again next by another (column); the last column: by none."""

    def sources(self, first: int, top: int) -> tuple[int, ...] | None:
        """Which of the points ``first`` to ``top`` hold anything; None when the extent must be written anew."""
        holding = tuple(point for point in range(first, top + 1) if self.grains[point])
        if self.alone[top] or len(holding) > 1:
            return None
        if holding and holding[0] != top and (self.alone[holding[0]] or not self._fits(holding[0], top)):
            return None
        return holding

    def cost(self, first: int, top: int) -> Cost:
        """Of merging the points ``first`` to ``top`` into the last of them."""
        before = sum(self.files[first : top + 1])
        sources = self.sources(first, top)
        if sources is not None:
            return Cost(0, before - self.files[sources[0] if sources else top])
        written = int(self.held[first : top + 1, top + 1 :].sum()) + self._frame(top)
        # At most so many grain tables as all of them have together.
        written += sum(
            self.files[point] - int(self.held[point].sum()) - self._frame(point)
            for point in range(first, top + 1)
            if self.files[point]
        )
        return Cost(written, before - written)

    def _frame(self, point: int) -> int:
        """Bytes of an extent that holds no grain."""
        return empty_bytes(self.capacities[point], alone=self.alone[point])

    def _fits(self, point: int, top: int) -> bool:
        return self.capacities[point] == self.capacities[top]


@dataclass(frozen=True, slots=True)
class Sized:
    """A run with its extents' sizes."""

    disk: DiskKey
    points: tuple[PointNumber, ...]
    slots: tuple[Slot, ...]

    def span(self, eliminated: frozenset[PointNumber]) -> tuple[int, int] | None:
        """First and last index of what becomes one when ``eliminated`` go; None when nothing of the run does."""
        places = [place for place, point in enumerate(self.points[:-1]) if point in eliminated]
        return (places[0], places[-1] + 1) if places else None

    def cost(self, eliminated: frozenset[PointNumber]) -> Cost:
        """Of merging what is eliminated into what stands on it."""
        span = self.span(eliminated)
        return Cost() if span is None else sum((slot.cost(*span) for slot in self.slots), Cost())

    def bytes_of(self, point: PointNumber) -> int:
        """What a point's files take."""
        return sum(slot.files[self.points.index(point)] for slot in self.slots) if point in self.points else 0


def choose(
    segments: Sequence[Sequence[PointNumber]], runs: Sequence[Sized], absorbed: Mapping[PointNumber, int]
) -> frozenset[PointNumber]:
    """The points to merge into what stands on them now; none when nothing is worth it.

    Args:
        segments: dropped points with no kept one between them, rising.
        runs: of every disk.
        absorbed: how many points each has absorbed.
    """
    best: tuple[int, frozenset[PointNumber]] = (0, frozenset())
    for segment in segments:
        for stop in (len(segment), len(segment) - 1):
            for first in range(stop):
                eliminated = frozenset(segment[first:stop])
                cost = sum((run.cost(eliminated) for run in runs), Cost())
                if cost.freed * WORTH >= cost.written and cost.freed > best[0]:
                    best = (cost.freed, eliminated)
    if best[1]:
        return best[1]
    for segment in segments:
        for first in range(len(segment) - FAN + 1):
            several = segment[first : first + FAN]
            ages = {_age(absorbed.get(point, 0)) for point in several}
            weights = [sum(run.bytes_of(point) for run in runs) for point in several]
            if len(ages) == 1 and 2 * max(weights) <= sum(weights):
                return frozenset(several[:-1])
    return frozenset()


def _age(absorbed: int) -> int:
    """How often FAN points became one."""
    return int(math.log(absorbed + 1, FAN) + 1e-9)

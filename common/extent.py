"""Algebra of byte ranges: sorted, disjoint, in bytes. Pure functions over tuples.

A *normal* sequence of extents is sorted by offset, disjoint, non-touching, and without empty members.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from common.grain import GRAIN_BYTES


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    """The bytes ``offset`` to ``offset + length - 1`` of a disk; both numbers are bytes, neither negative."""

    offset: int
    length: int

    def __post_init__(self) -> None:
        if self.offset < 0 or self.length < 0:
            raise ValueError(f"extent {self.offset}+{self.length} has a negative part")

    @property
    def end(self) -> int:
        """First byte past the extent."""
        return self.offset + self.length


def normalise(extents: Iterable[Extent]) -> tuple[Extent, ...]:
    """Sort, drop empty members, join what overlaps or touches."""
    merged: list[Extent] = []
    for extent in sorted(extents):
        if not extent.length:
            continue
        if merged and extent.offset <= merged[-1].end:
            last = merged[-1]
            merged[-1] = Extent(last.offset, max(last.end, extent.end) - last.offset)
        else:
            merged.append(extent)
    return tuple(merged)


def total(extents: Iterable[Extent]) -> int:
    """Sum of lengths in bytes; meaningful for normal sequences."""
    return sum(extent.length for extent in extents)


def above(extents: Iterable[Extent], offset: int) -> tuple[Extent, ...]:
    """What of normal ``extents`` lies at byte ``offset`` or behind it, normal again."""
    begins = ((max(extent.offset, offset), extent.end) for extent in extents)
    return tuple(Extent(begin, end - begin) for begin, end in begins if begin < end)


def round_to_grains(extents: Iterable[Extent], capacity_bytes: int) -> tuple[Extent, ...]:
    """Widen each extent to whole grains, clip at ``capacity_bytes``, and normalise."""
    widened = []
    for extent in extents:
        begin = extent.offset // GRAIN_BYTES * GRAIN_BYTES
        end = min(-(-extent.end // GRAIN_BYTES) * GRAIN_BYTES, capacity_bytes)
        if extent.length and begin < end:
            widened.append(Extent(begin, end - begin))
    return normalise(widened)


def split(extents: Iterable[Extent], most_bytes: int) -> Iterator[Extent]:
    """Cut extents into pieces of at most ``most_bytes``, cut at multiples of it, in order."""
    for extent in extents:
        offset = extent.offset
        while offset < extent.end:
            end = min((offset // most_bytes + 1) * most_bytes, extent.end)
            yield Extent(offset, end - offset)
            offset = end

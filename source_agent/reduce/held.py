"""What the target holds of a disk, fetched a window at a time.

A whole manifest of a 62 TiB disk is 20 GiB; a window of one covers at most 4 GiB of disk or 4,096 pieces. Pieces are
asked for in rising order, so a window is fetched once and dropped when it was passed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from common.extent import Extent
from common.grain import GRAIN_BYTES

_WINDOW_GRAINS: Final = 65536
_WINDOW_RANGES: Final = 4096

GrainSpan = tuple[int, int]
"""First grain and number of grains."""

Fetch = Callable[[Sequence[GrainSpan]], Mapping[int, bytes]]
"""Digests by grain index of the spans given, which rise and are disjoint."""


def spans(pieces: Iterable[Extent]) -> list[GrainSpan]:
    """Grain spans of grain-aligned pieces."""
    return [(piece.offset // GRAIN_BYTES, -(-piece.length // GRAIN_BYTES)) for piece in pieces]


class HeldDigests:
    """Digests for one disk's pieces, which must be asked for in the order given here."""

    def __init__(self, pieces: Sequence[Extent], fetch: Fetch) -> None:
        self._waiting = spans(pieces)
        self._next = 0
        self._reach = -1
        self._fetch = fetch
        self._window: Mapping[int, bytes] = {}

    def of(self, piece: Extent) -> Mapping[int, bytes]:
        """Digests of (at least) the grains of ``piece``."""
        if piece.offset // GRAIN_BYTES > self._reach:
            self._advance()
        return self._window

    def _advance(self) -> None:
        begin = self._next
        grains = 0
        while self._next < len(self._waiting) and self._next - begin < _WINDOW_RANGES:
            grains += self._waiting[self._next][1]
            if grains > _WINDOW_GRAINS and self._next > begin:
                break
            self._next += 1
        wanted = self._waiting[begin : self._next]
        self._window = self._fetch(_joined(wanted))
        self._reach = wanted[-1][0] + wanted[-1][1] - 1


def _joined(wanted: Sequence[GrainSpan]) -> list[GrainSpan]:
    """Touching spans as one: a compare reads everything, and should ask in one range."""
    joined: list[GrainSpan] = []
    for first, count in wanted:
        if joined and sum(joined[-1]) == first:
            joined[-1] = (joined[-1][0], joined[-1][1] + count)
        else:
            joined.append((first, count))
    return joined

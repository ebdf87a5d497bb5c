"""A chain's manifests folded into one: per grain the newest point that holds it wins."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.grain import DIGEST_BYTES
from target_appliance.seal.manifest_reader import ManifestReader

WINDOW_GRAINS: Final = 65536
"""Grains folded at once: 1 MiB of digests."""
HOLE: Final = -1


@dataclass(frozen=True, slots=True)
class Window:
    """Grains ``first`` and up, one row each: which layer holds it (HOLE for none) and its digest."""

    first: int
    layers: NDArray[np.int32]
    digests: NDArray[np.uint8]


def fold(chain: Sequence[ManifestReader], first: int, count: int) -> Window:
    """The effective rows of ``count`` grains.

    Args:
        chain: the point's own manifest first, then its base's, and so on.
        first: grain index.
        count: at least 1; memory is 20 bytes per grain.
    """
    layers = np.full(count, HOLE, np.int32)
    digests = np.zeros((count, DIGEST_BYTES), np.uint8)
    for layer in reversed(range(len(chain))):
        records = chain[layer].between(first, first + count)
        places = records["grain"] - np.uint32(first)
        layers[places] = layer
        digests[places] = records["digest"]
    return Window(first, layers, digests)


def windows(chain: Sequence[ManifestReader], first: int, stop: int, most: int = WINDOW_GRAINS) -> Iterator[Window]:
    """Windows that cover every held grain from ``first`` up to ``stop``; stretches without any are left out."""
    while first < stop:
        held = [grain for reader in chain if (grain := reader.next_grain(first)) is not None]
        if not held or min(held) >= stop:
            return
        first = min(held)
        count = min(most, stop - first)
        yield fold(chain, first, count)
        first += count


def within(chain: Sequence[ManifestReader], ranges: Sequence[tuple[int, int]], grains: int) -> Iterator[Window]:
    """Windows over the grains in ``ranges`` only; rows outside of them are holes.

    Args:
        chain: as in ``fold``.
        ranges: pairs of first grain and count, rising and disjoint; many small ones cost one fold per WINDOW_GRAINS.
        grains: grains of the disk; what lies past it is left out.
    """
    waiting = deque((first, min(first + count, grains)) for first, count in ranges if first < grains and count)
    while waiting:
        first = waiting[0][0]
        limit = first + WINDOW_GRAINS
        wanted = np.zeros(WINDOW_GRAINS, np.bool_)
        stop = first
        while waiting and waiting[0][0] < limit:
            begin, end = waiting.popleft()
            stop = min(end, limit)
            wanted[begin - first : stop - first] = True
            if end > limit:
                waiting.appendleft((limit, end))
        window = fold(chain, first, stop - first)
        window.layers[~wanted[: stop - first]] = HOLE
        yield window

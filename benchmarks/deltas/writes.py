"""What a guest does to its disk in one step of the workload, and which bytes of two images differ. Pure."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.extent import Extent, normalise

BLOCK_BYTES = 4096
_AT_ONCE = 64 << 20


@dataclass(frozen=True)
class Step:
    """One step; offsets are bytes of the file system's image."""

    name: str
    what: str
    writes: tuple[tuple[int, bytes], ...]
    """(offset, data), rising and disjoint."""
    discards: tuple[Extent, ...] = ()
    """What the guest trims, if its block layer passes that on."""


def differing(before: Path, after: Path) -> tuple[Extent, ...]:
    """Blocks in which two files of the same size, a multiple of the block, differ."""
    found = []
    with before.open("rb") as old, after.open("rb") as new:
        at = 0
        while piece := new.read(_AT_ONCE):
            words = (np.frombuffer(one, np.uint64).reshape(-1, BLOCK_BYTES // 8) for one in (old.read(_AT_ONCE), piece))
            (blocks,) = np.nonzero(np.not_equal(*words).any(axis=1))
            found += [Extent(at + int(block) * BLOCK_BYTES, BLOCK_BYTES) for block in blocks]
            at += len(piece)
    return normalise(found)


def common_part(these: tuple[Extent, ...], those: tuple[Extent, ...]) -> tuple[Extent, ...]:
    """What lies in both of two normal sequences."""
    found, others = [], list(those)
    for one in these:
        while others and others[0].end <= one.offset:
            others.pop(0)
        for other in others:
            if other.offset >= one.end:
                break
            begin = max(one.offset, other.offset)
            found.append(Extent(begin, min(one.end, other.end) - begin))
    return normalise(found)

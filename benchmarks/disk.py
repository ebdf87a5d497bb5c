"""The bench disk: 40 % holes, 35 % data that LZ4 shrinks to about 0.40, 25 % random; the same bytes on every machine.

Nothing repeats across MiBs, so that a deduplicating peer gains nothing that a real guest would not give it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common.grain import GRAIN_BYTES

MIB = 1 << 20
_HOLES = 0.40
_COMPRESSIBLE = 0.35
_WORD_BYTES = 8
_WORDS = 256  # few enough that LZ4 finds them again within its window: a ratio of 0.40


def write_disk(path: Path, mib: int, seed: int = 7) -> None:
    """A new sparse file of ``mib`` MiB; each MiB is a hole, compressible or random."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 256, (_WORDS, _WORD_BYTES), dtype=np.uint8)
    with path.open("wb") as disk:
        for number in range(mib):
            kind = rng.random()
            if kind >= _HOLES:
                disk.seek(number * MIB)
                if kind < _HOLES + _COMPRESSIBLE:
                    disk.write(words[rng.integers(0, _WORDS, MIB // _WORD_BYTES)].tobytes())
                else:
                    disk.write(rng.bytes(MIB))
        disk.truncate(mib * MIB)


def delta(mib: int, writes: int, seed: int = 1) -> Iterator[tuple[int, bytes]]:
    """``writes`` pieces of one grain of random bytes each, at distinct grains all over the disk, rising by offset."""
    rng = np.random.default_rng(seed)
    grains = rng.choice(mib * MIB // GRAIN_BYTES, writes, replace=False)
    for grain in sorted(int(number) for number in grains):
        yield grain * GRAIN_BYTES, rng.bytes(GRAIN_BYTES)


def data_extents(path: Path) -> Iterator[tuple[int, int]]:
    """(offset, length) of what is no hole, in order."""
    with path.open("rb") as disk:
        size = os.fstat(disk.fileno()).st_size
        offset = 0
        while offset < size:
            try:
                start = os.lseek(disk.fileno(), offset, os.SEEK_DATA)
            except OSError:  # nothing but a hole up to the end
                return
            offset = os.lseek(disk.fileno(), start, os.SEEK_HOLE)
            yield start, offset - start

"""What stands on a fresh guest disk: holes, data that compresses and data that does not, the same for the same seed."""

import os
import random
from pathlib import Path

import numpy as np

_RUN = 256 << 10


def make_disk(path: Path, size: int, seed: str) -> None:
    """Write a sparse file of ``size`` bytes: of its 256 KiB runs 40 % holes, 35 % compressible, the rest random."""
    rng = random.Random(seed)
    noise = np.random.default_rng(list(seed.encode()))  # at a size for benchmarks ten times as fast
    run = min(_RUN, size)  # a small disk needs no more
    pool = [_compressible(rng, run) for _ in range(4)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as disk:
        for offset in range(0, size, _RUN):
            length = min(_RUN, size - offset)
            kind = rng.random()
            if offset and kind < 0.40:
                continue
            if kind < 0.75:
                turn = rng.randrange(run)
                block = rng.choice(pool)
                data = block[turn:] + block[:turn]
            else:
                data = noise.bytes(length)
            os.pwrite(disk.fileno(), data[:length], offset)
        disk.truncate(size)


def _compressible(rng: random.Random, size: int) -> bytes:
    """Words with noise between them: LZ4 makes it about half as long."""
    words = [rng.randbytes(4).hex().encode() for _ in range(256)]
    out = bytearray()
    while len(out) < size:
        out += b" ".join(rng.choices(words, k=64)) + rng.randbytes(48)
    return bytes(out[:size])

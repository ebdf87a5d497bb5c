"""Images as others make them: qemu writes the VMDKs."""

import random
import struct
import subprocess
from pathlib import Path

from common.grain import GRAIN_BYTES

SUBFORMATS = (
    "monolithicSparse",
    "monolithicFlat",
    "twoGbMaxExtentSparse",
    "twoGbMaxExtentFlat",
    "streamOptimized",
)
SIZE = 1400 * GRAIN_BYTES + 5 * 512
"""Three grain tables, and a last grain that is not whole."""


def write_raw(path: Path, size: int = SIZE, seed: int = 3) -> bytes:
    """A sparse raw disk: text, random bytes, holes, written zeros, data in its last sector."""
    rng = random.Random(seed)
    grains = size // GRAIN_BYTES
    with path.open("wb") as file:
        file.truncate(size)
        for grain in sorted({0, 1, grains - 1, *rng.sample(range(grains), grains // 9)}):
            kinds = (rng.randbytes(64) * 1024, rng.randbytes(GRAIN_BYTES), bytes(GRAIN_BYTES))
            data = rng.choice(kinds) if grain else kinds[0]
            file.seek(grain * GRAIN_BYTES)
            file.write(data)
        file.seek(size - 512)
        file.write(rng.randbytes(512))
    return path.read_bytes()


def convert(raw: Path, out: Path, subformat: str) -> Path:
    """A VMDK of the raw disk."""
    command = ["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o", f"subformat={subformat}", raw, out]
    subprocess.run(command, check=True, timeout=60)
    return out


def first_grain(path: Path) -> int:
    """Where the first grain's marker lies in a sparse VMDK that holds the first grain."""
    data = path.read_bytes()
    directory = struct.unpack_from("<Q", data, 56)[0]
    if directory == (1 << 64) - 1:
        directory = struct.unpack_from("<Q", data, len(data) - 1024 + 56)[0]
    table = struct.unpack_from("<I", data, directory * 512)[0]
    return struct.unpack_from("<I", data, table * 512)[0] * 512

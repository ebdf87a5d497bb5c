"""The grain: 64 KiB that are compared, hashed, compressed, sealed and stored as one.

A disk's last grain is treated as a whole one, zero-padded past the capacity, so that digests, codecs and the file
format know one length only.
"""

import enum
from typing import Final

from blake3 import blake3

GRAIN_BYTES: Final = 65536
"""Bytes in a grain."""

DIGEST_BYTES: Final = 16
"""Bytes of a grain's digest: BLAKE3 truncated to 128 bits."""

ZERO_GRAIN: Final = bytes(GRAIN_BYTES)

MAX_CAPACITY_BYTES: Final = 62 << 40
"""Largest virtual disk of vSphere: 62 TiB."""


class GrainKind(enum.IntEnum):
    """How a grain record carries its data; the numbers are those of the wire."""

    ZERO = 0
    """All bytes zero; no data."""
    RAW = 1
    """64 KiB as they are."""
    LZ4 = 2
    """An LZ4 block without size prefix that decodes to exactly 64 KiB; shorter than 64 KiB."""


def digest(plaintext: bytes | bytearray | memoryview) -> bytes:
    """BLAKE3-128 of one grain's 64 KiB."""
    return blake3(plaintext).digest(length=DIGEST_BYTES)


ZERO_DIGEST: Final = digest(ZERO_GRAIN)
"""Digest of a grain of zeros; a manifest marks zeroed grains with it."""


def grain_count(capacity_bytes: int) -> int:
    """Grains that cover a disk of ``capacity_bytes``, the partial last one included."""
    return -(-capacity_bytes // GRAIN_BYTES)

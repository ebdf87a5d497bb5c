"""What is left to keep of some grains that were read: what either half sends or seals. Pure.

Cheapest test first: zero, then the digest, then compression, which costs six times as much as both together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from common.grain import GRAIN_BYTES, ZERO_DIGEST, ZERO_GRAIN, GrainKind, digest
from common.lz4_block import compress_into
from common.sync.events import GrainRecord

_PROBE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Reduced:
    """Records to send, rising by grain, and what became of the others; the counts are grains."""

    records: tuple[GrainRecord, ...]
    zero: int
    unchanged: int


def reduce_grains(plaintext: memoryview, first: int, held: Mapping[int, bytes] | None) -> Reduced:
    """Records for the whole grains in ``plaintext``, of which the first has the index ``first``.

    Args:
        plaintext: a multiple of 64 KiB; records hold none of it, so it may be used again afterwards.
        first: grain index of its beginning.
        held: digests that the target's newest point has of these grains, a missing one being zeros; None when the
            point starts a chain, where zeros need no record.
    """
    records: list[GrainRecord] = []
    zero = unchanged = 0
    scratch = memoryview(bytearray(GRAIN_BYTES - 1))
    for place in range(len(plaintext) // GRAIN_BYTES):
        index = first + place
        grain = plaintext[place * GRAIN_BYTES : (place + 1) * GRAIN_BYTES]
        before = ZERO_DIGEST if held is None else held.get(index, ZERO_DIGEST)
        if _is_zero(grain):
            zero += 1
            if before != ZERO_DIGEST:
                records.append(GrainRecord(index, GrainKind.ZERO, ZERO_DIGEST, b""))
            continue
        mark = digest(grain)
        if mark == before:
            unchanged += 1
            continue
        records.append(packed_grain(index, mark, grain, scratch))
    return Reduced(tuple(records), zero, unchanged)


def packed_grain(index: int, mark: bytes, grain: memoryview, scratch: memoryview) -> GrainRecord:
    """The record of a grain that is not zero, compressed only if that makes it smaller.

    Args:
        index: on its disk.
        mark: its digest.
        grain: 64 KiB.
        scratch: GRAIN_BYTES - 1 bytes to work in.
    """
    size = compress_into(grain, scratch)
    if size:
        return GrainRecord(index, GrainKind.LZ4, mark, bytes(scratch[:size]))
    return GrainRecord(index, GrainKind.RAW, mark, bytes(grain))


def _is_zero(grain: memoryview) -> bool:
    """Whether all bytes are zero. Only a grain that begins with zeros is copied, for a comparison at memory speed."""
    return bytes(grain[:_PROBE_BYTES]) == ZERO_GRAIN[:_PROBE_BYTES] and bytes(grain) == ZERO_GRAIN

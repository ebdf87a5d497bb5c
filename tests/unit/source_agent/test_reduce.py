import os

import lz4.block
import pytest

from common.extent import Extent
from common.grain import GRAIN_BYTES, ZERO_DIGEST, GrainKind, digest
from common.reduce import reduce_grains
from source_agent.reduce.held import HeldDigests, spans

RANDOM = os.urandom(GRAIN_BYTES)
TEXT = b"keysapart " * 6553 + b"......"
ZERO = bytes(GRAIN_BYTES)


def _reduce(*grains, first=7, held=None):
    return reduce_grains(memoryview(b"".join(grains)), first, held)


def test_a_full_leaves_zeros_out():
    result = _reduce(ZERO, RANDOM, ZERO, TEXT)
    assert [(record.grain, record.kind) for record in result.records] == [(8, GrainKind.RAW), (10, GrainKind.LZ4)]
    assert (result.zero, result.unchanged) == (2, 0)


def test_carried_bytes_are_the_grain():
    raw, packed = _reduce(RANDOM, TEXT).records
    assert raw.data == RANDOM
    assert raw.digest == digest(RANDOM)
    assert lz4.block.decompress(packed.data, uncompressed_size=GRAIN_BYTES) == TEXT
    assert len(packed.data) < GRAIN_BYTES // 10
    assert packed.digest == digest(TEXT)


def test_records_hold_nothing_of_what_they_were_made_from():
    buffer = bytearray(RANDOM + TEXT)
    raw, packed = reduce_grains(memoryview(buffer), 0, None).records
    buffer[:] = bytes(len(buffer))
    assert raw.data == RANDOM
    assert lz4.block.decompress(packed.data, uncompressed_size=GRAIN_BYTES) == TEXT


def test_what_the_target_holds_is_not_sent():
    held = {7: digest(RANDOM), 8: digest(TEXT), 9: digest(TEXT)}
    result = _reduce(RANDOM, RANDOM, ZERO, ZERO, held=held)
    assert [(record.grain, record.kind) for record in result.records] == [(8, GrainKind.RAW), (9, GrainKind.ZERO)]
    assert result.records[1].data == b""
    assert result.records[1].digest == ZERO_DIGEST
    assert (result.zero, result.unchanged) == (2, 1)


def test_a_grain_zeroed_before_is_a_hole_now_too():
    assert _reduce(ZERO, held={7: ZERO_DIGEST}).records == ()


class _Fetcher:
    def __init__(self):
        self.asked = []

    def __call__(self, wanted):
        self.asked.append(list(wanted))
        return {grain: b"%d" % grain for first, count in wanted for grain in range(first, first + count)}


def _pieces(*offsets_and_grains):
    return [Extent(first * GRAIN_BYTES, count * GRAIN_BYTES) for first, count in offsets_and_grains]


def test_one_fetch_serves_many_pieces_and_touching_ones_are_one_range():
    fetch = _Fetcher()
    pieces = _pieces((0, 16), (16, 16), (40, 3))
    held = HeldDigests(pieces, fetch)
    assert [held.of(piece)[piece.offset // GRAIN_BYTES] for piece in pieces] == [b"0", b"16", b"40"]
    assert fetch.asked == [[(0, 32), (40, 3)]]


@pytest.mark.parametrize(
    ("pieces", "windows"),
    [
        (_pieces(*[(16 * n, 16) for n in range(5000)]), 2),
        (_pieces(*[(2 * n, 1) for n in range(9000)]), 3),
    ],
)
def test_windows_bound_what_is_in_memory(pieces, windows):
    fetch = _Fetcher()
    held = HeldDigests(pieces, fetch)
    for piece in pieces:
        found = held.of(piece)
        assert found[piece.offset // GRAIN_BYTES]
        assert len(found) <= 65536
    assert len(fetch.asked) == windows


def test_a_partial_last_piece_counts_as_a_grain():
    assert spans([Extent(GRAIN_BYTES, 512)]) == [(1, 1)]

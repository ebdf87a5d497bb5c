import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from common.errors import InterruptedSyncError, SourceError
from common.extent import Extent
from common.grain import GRAIN_BYTES
from source_agent import pipeline
from source_agent.pipeline import PIECE_BYTES, READ_AHEAD, DiskCount
from source_agent.reduce.held import HeldDigests

CAPACITY = 5 * PIECE_BYTES + 3 * 512


class _Disk:
    """An image in memory; may fail from an offset on, and knows its holes."""

    def __init__(self, image, *, fails_at=None, data=None):
        self.image, self.fails_at, self.data, self.reads = image, fails_at, data, 0

    @contextmanager
    def lend(self, piece):
        self.reads += 1
        if self.fails_at is not None and piece.offset >= self.fails_at:
            raise SourceError("unreadable", subject="disk 1", next_step="mend it")
        buffer = bytearray(self.image[piece.offset : piece.end])
        yield memoryview(buffer)
        buffer[:] = b"\xee" * len(buffer)

    def expect(self, pieces):
        self.expected = list(pieces)

    def allocated(self, wanted):
        return [wanted] if self.data is None else [part for part in self.data if part.offset < wanted.end]


@pytest.fixture
def workers():
    with ThreadPoolExecutor(2) as pool:
        yield pool


def _all(disk, wanted, workers, count, **options):
    return [r for group in pipeline.records(disk, wanted, None, workers=workers, count=count, **options) for r in group]


def test_everything_comes_in_order_with_the_last_grain_padded(workers):
    disk = _Disk(os.urandom(CAPACITY))
    count = DiskCount()
    wanted = pipeline.pieces(disk, [Extent(0, CAPACITY)], CAPACITY, skip_holes=True)
    assert max(piece.length for piece in wanted) == PIECE_BYTES
    records = _all(disk, wanted, workers, count)
    assert [record.grain for record in records] == list(range(81))
    assert b"".join(record.data for record in records[:80]) == disk.image[: 80 * GRAIN_BYTES]
    assert len(records[80].data) < GRAIN_BYTES
    assert count.bytes_read == CAPACITY


def test_small_extents_are_whole_grains(workers):
    disk = _Disk(os.urandom(CAPACITY))
    wanted = pipeline.pieces(disk, [Extent(70_000, 512), Extent(CAPACITY - 512, 512)], CAPACITY, skip_holes=False)
    assert wanted == [Extent(GRAIN_BYTES, GRAIN_BYTES), Extent(80 * GRAIN_BYTES, 3 * 512)]
    assert [record.grain for record in _all(disk, wanted, workers, DiskCount())] == [1, 80]


def test_holes_are_skipped_only_when_asked():
    disk = _Disk(b"", data=[Extent(GRAIN_BYTES, 512)])
    whole = [Extent(0, CAPACITY)]
    assert pipeline.pieces(disk, whole, CAPACITY, skip_holes=True) == [Extent(GRAIN_BYTES, GRAIN_BYTES)]
    assert sum(p.length for p in pipeline.pieces(disk, whole, CAPACITY, skip_holes=False)) == CAPACITY


def test_a_failing_read_surfaces_and_nothing_is_left_running(workers):
    disk = _Disk(os.urandom(CAPACITY), fails_at=PIECE_BYTES)
    wanted = pipeline.pieces(disk, [Extent(0, CAPACITY)], CAPACITY, skip_holes=False)
    with pytest.raises(SourceError, match="unreadable"):
        _all(disk, wanted, workers, DiskCount())


def test_reading_ahead_is_bounded_and_stops_when_told(workers):
    image = bytes(40 * PIECE_BYTES)
    disk = _Disk(image)
    wanted = pipeline.pieces(disk, [Extent(0, len(image))], len(image), skip_holes=False)
    stop = []
    groups = pipeline.records(disk, wanted, None, workers=workers, count=DiskCount(), stopped=lambda: bool(stop))
    next(groups)
    assert disk.reads <= READ_AHEAD
    stop.append(True)
    with pytest.raises(InterruptedSyncError):  # an end without a word would pass for the whole disk
        list(groups)
    assert disk.reads <= READ_AHEAD + 1


def test_held_digests_are_asked_in_order(workers):
    disk = _Disk(bytes(CAPACITY))
    wanted = pipeline.pieces(disk, [Extent(0, CAPACITY)], CAPACITY, skip_holes=False)
    asked = []

    def fetch(spans):
        asked.extend(spans)
        return {3: b"something that is not zeros"}

    found = pipeline.records(disk, wanted, HeldDigests(wanted, fetch), workers=workers, count=DiskCount())
    assert [record.grain for group in found for record in group] == [3]
    assert asked == [(0, 81)]

"""The bench disk is what the figures say it is, and the same every time."""

import lz4.block
import pytest

from benchmarks.disk import MIB, data_extents, delta, write_disk
from common.grain import GRAIN_BYTES

SIZE_MIB = 96


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    path = tmp_path_factory.mktemp("bench") / "disk.raw"
    write_disk(path, SIZE_MIB)
    return path


def grains(disk):
    with disk.open("rb") as file:
        for start, length in data_extents(disk):
            file.seek(start)
            for _ in range(length // GRAIN_BYTES):
                yield file.read(GRAIN_BYTES)


def test_shares_of_holes_compressible_and_random_data(disk):
    ratios = [len(lz4.block.compress(grain, store_size=False)) / GRAIN_BYTES for grain in grains(disk)]
    compressible = [ratio for ratio in ratios if ratio < 0.9]
    all_grains = SIZE_MIB * MIB // GRAIN_BYTES

    assert disk.stat().st_size == SIZE_MIB * MIB
    assert 0.25 < 1 - len(ratios) / all_grains < 0.55
    assert 0.2 < len(compressible) / all_grains < 0.5
    assert 0.35 < sum(compressible) / len(compressible) < 0.45


def test_same_bytes_every_time(disk, tmp_path):
    again = tmp_path / "again.raw"
    write_disk(again, SIZE_MIB)

    assert again.read_bytes() == disk.read_bytes()


def test_nothing_repeats_for_a_deduplicating_peer(disk):
    seen = list(grains(disk))

    assert len(set(seen)) == len(seen)


def test_delta_writes_each_grain_once_in_order():
    offsets = [offset for offset, data in delta(SIZE_MIB, 64) if len(data) == GRAIN_BYTES]

    assert len(set(offsets)) == 64
    assert offsets == sorted(offsets)
    assert all(offset % GRAIN_BYTES == 0 for offset in offsets)

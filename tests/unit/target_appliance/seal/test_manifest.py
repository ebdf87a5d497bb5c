"""Sealed manifests: chunks, ranges, roots, cuts; and chains of them folded."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.ids import DiskKey, ReplicaId, SyncId
from target_appliance.seal.fold import HOLE, fold, windows, within
from target_appliance.seal.keys import DataKey
from target_appliance.seal.manifest import CHUNK_RECORDS, HEADER, RECORD, STRIDE_BYTES, ManifestWriter
from target_appliance.seal.manifest_reader import ManifestError, ManifestReader
from target_appliance.store.memory import MemoryStore

KEY = DataKey(ReplicaId("4c4c4544-0051-3010-8052-b4c04f564231"), DiskKey(2000), 1, bytes(range(32)))
SYNC = SyncId("00000000-0000-4000-8000-000000000001")
OTHER_SYNC = SyncId("00000000-0000-4000-8000-000000000002")


def mark(grain, salt=0):
    return random.Random(grain * 31 + salt).randbytes(16)


def written(grains, salt=0, point=1, pieces=1000):
    """Store with a manifest ``m`` of the grains; its root."""
    store = MemoryStore()
    with store.create("m") as file:
        writer = ManifestWriter(file, KEY, point, SYNC)
        grains = sorted(grains)
        for at in range(0, len(grains), pieces):
            writer.add(b"".join(RECORD.pack(grain, mark(grain, salt)) for grain in grains[at : at + pieces]))
        assert writer.records == len(grains)
        return store, writer.finish()


def reader(store, key=KEY, point=1, sync=SYNC):
    return ManifestReader(store.open("m"), key, point, sync)


COUNTS = [0, 1, CHUNK_RECORDS - 1, CHUNK_RECORDS, CHUNK_RECORDS + 1, 2 * CHUNK_RECORDS, 3 * CHUNK_RECORDS + 7]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("pieces", [7, 999, 5000])
def test_round_trip(count, pieces):
    grains = range(3, 3 + 2 * count, 2)
    store, root = written(grains, pieces=pieces)
    manifest = reader(store)

    found = np.concatenate(list(manifest.all()))
    assert manifest.records == count
    assert manifest.chunks == max(1, -(-count // CHUNK_RECORDS))
    assert found["grain"].tolist() == list(grains)
    assert [bytes(digest) for digest in found["digest"]] == [mark(grain) for grain in grains]
    assert manifest.root() == root


@pytest.mark.parametrize("count", COUNTS)
def test_ranges(count):
    grains = list(range(3, 3 + 2 * count, 2))
    store, _ = written(grains)
    rng = random.Random(count)
    for first in [0, 3, 4, 3 + 2 * CHUNK_RECORDS, *(rng.randrange(2 * count + 10) for _ in range(40))]:
        stop = first + rng.randrange(1, 3 * CHUNK_RECORDS)
        found = reader(store).between(first, stop)
        assert found["grain"].tolist() == [grain for grain in grains if first <= grain < stop]
        assert reader(store).next_grain(first) == next((grain for grain in grains if grain >= first), None)


def test_every_flipped_byte_and_cut_shows():
    store, root = written(range(5))
    content = bytes(store.content("m"))

    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 1
        store.content("m")[:] = altered
        with pytest.raises(ManifestError):
            reader(store).root()
    for length in range(len(content)):
        store.content("m")[:] = content[:length]
        with pytest.raises(ManifestError):
            reader(store).root()
    store.content("m")[:] = content
    assert reader(store).root() == root


@pytest.mark.parametrize("count", [2 * CHUNK_RECORDS, 2 * CHUNK_RECORDS + 5])
def test_a_cut_at_a_chunk_shows(count):
    store, _ = written(range(count))
    del store.content("m")[HEADER.size + STRIDE_BYTES :]

    with pytest.raises(ManifestError, match="chunk 0 does not open") as caught:
        reader(store).root()
    assert (caught.value.offset, caught.value.length) == (HEADER.size, STRIDE_BYTES)


def test_swapped_chunks_show():
    store, _ = written(range(3 * CHUNK_RECORDS))
    content = store.content("m")
    first, second = slice(64, 64 + STRIDE_BYTES), slice(64 + STRIDE_BYTES, 64 + 2 * STRIDE_BYTES)
    content[first], content[second] = content[second], content[first]

    with pytest.raises(ManifestError):
        reader(store).root()


@pytest.mark.parametrize(
    "place",
    [
        {"point": 2},
        {"sync": OTHER_SYNC},
        {"key": DataKey(KEY.replica, DiskKey(2001), 1, KEY.value)},
        {"key": DataKey(KEY.replica, KEY.disk, 1, bytes(32))},
    ],
    ids=["point", "sync", "disk", "dek"],
)
def test_it_opens_nowhere_else(place):
    store, _ = written(range(5))

    with pytest.raises(ManifestError):
        reader(store, **place).root()


def test_the_header_is_not_all_that_binds_the_sync():
    store, _ = written(range(5))
    content = store.content("m")
    content[40:56] = bytes.fromhex(OTHER_SYNC.replace("-", ""))

    with pytest.raises(ManifestError, match="chunk 0 does not open"):
        reader(store, sync=OTHER_SYNC).root()


def test_grains_that_do_not_rise_are_refused():
    for grains in ([5, 5], [5, 4]):
        store = MemoryStore()
        with store.create("m") as file:
            writer = ManifestWriter(file, KEY, 1, SYNC)
            writer.add(b"".join(RECORD.pack(grain, mark(grain)) for grain in grains))
            writer.finish()
        with pytest.raises(ManifestError, match="does not rise"):
            reader(store).root()


def test_chunks_that_do_not_rise_are_refused():
    store = MemoryStore()
    with store.create("m") as file:
        writer = ManifestWriter(file, KEY, 1, SYNC)
        for _ in range(2):
            writer.add(b"".join(RECORD.pack(grain, mark(grain)) for grain in range(CHUNK_RECORDS)))
        writer.finish()

    with pytest.raises(ManifestError, match="chunk 1 does not rise"):
        reader(store).root()


LAYERS = st.lists(st.sets(st.integers(0, 300), max_size=60), min_size=1, max_size=4)
RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 20)), max_size=6)


def expected(layers, first, stop):
    """By the definition: newest layer, which is the first one, wins."""
    rows = {}
    for grain in range(first, stop):
        layer = next((number for number, grains in enumerate(layers) if grain in grains), HOLE)
        if layer != HOLE:
            rows[grain] = (layer, mark(grain, layer))
    return rows


def rows(found):
    return {
        window.first + place: (int(layer), window.digests[place].tobytes())
        for window in found
        for place, layer in enumerate(window.layers)
        if layer != HOLE
    }


@settings(deadline=None, max_examples=60)
@given(LAYERS, st.integers(0, 310), st.integers(1, 200), st.integers(1, 50), RANGES)
def test_chains_fold(layers, first, count, most, gaps):
    chain = [reader(written(grains, salt)[0]) for salt, grains in enumerate(layers)]

    assert rows([fold(chain, first, count)]) == expected(layers, first, first + count)
    assert rows(windows(chain, first, first + count, most)) == expected(layers, first, first + count)

    ranges, at = [], 0
    for gap, length in gaps:
        ranges.append((at + gap, length))
        at += gap + length
    wanted = {}
    for begin, length in ranges:
        wanted |= expected(layers, begin, min(begin + length, 290))
    assert rows(within(chain, ranges, 290)) == wanted


def test_ranges_far_apart_and_longer_than_a_window():
    grains = {0, 5, 65535, 65536, 65537, 200_000, 1_000_000}
    chain = [reader(written(grains)[0])]

    found = rows(within(chain, [(0, 3), (4, 150_000), (1_000_000, 1)], 1 << 30))

    assert sorted(found) == [0, 5, 65535, 65536, 65537, 1_000_000]

"""Extents: written, read back, read by qemu, and refused when altered."""

import json
import random
import struct
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.grain import GRAIN_BYTES
from target_appliance.store.memory import MemoryStore
from target_appliance.store.posix import PosixStore
from target_appliance.vmdk.descriptor import STREAM, Descriptor, ExtentLine
from target_appliance.vmdk.layout import (
    EXTENT_MOST_BYTES,
    GRAIN_MARKER,
    GRAIN_SECTORS,
    SECTOR_BYTES,
    Header,
    extent_capacities,
    grain_record_bytes,
    padded,
)
from target_appliance.vmdk.reader import ExtentReader, LayoutError
from target_appliance.vmdk.writer import ExtentWriter, entry_of

MOST = 70000
CAPACITY = 1100 * GRAIN_BYTES + 5 * 512


def payload(grain, size=100):
    return random.Random(grain).randbytes(size)


def record(grain, data):
    raw = GRAIN_MARKER.pack(grain * GRAIN_SECTORS, len(data)) + data
    return raw.ljust(padded(len(raw)), b"\0")


def write(store, grains, zeros=(), *, capacity=CAPACITY, descriptor=None, path="e", size=100):
    with store.create(path) as file:
        writer = ExtentWriter(file, capacity, descriptor)
        for grain in sorted({*grains, *zeros}):
            if grain in zeros:
                writer.add(grain, b"")
            else:
                writer.add(grain, record(grain, payload(grain, size)))
            if grain % 3 == 0:
                writer.flush()
        writer.finish()


def embedded(name="e", capacity=CAPACITY):
    return Descriptor(STREAM, 1, [ExtentLine(capacity // SECTOR_BYTES, "SPARSE", name)]).embedded()


GRAINS = st.sets(st.integers(0, 1100), max_size=40)


@settings(deadline=None, max_examples=60)
@given(GRAINS, GRAINS, st.booleans(), st.sampled_from([1, 500, 501, 66000]))
def test_round_trip(grains, zeros, alone, size):
    store = MemoryStore()
    write(store, grains, zeros, descriptor=embedded() if alone else None, size=size)

    with store.open("e") as file:
        extent = ExtentReader(file, CAPACITY, MOST)
        found = dict(extent.entries())
        assert set(found) == grains | zeros
        assert all(found[grain] == 1 for grain in zeros)
        assert all(extent.entry(grain) == found.get(grain, 0) for grain in range(1102))
        wanted = [(grain, found[grain]) for grain in sorted(grains - zeros)]
        assert [bytes(data) for data in extent.payloads(wanted)] == [payload(grain, size) for grain, _ in wanted]
        some = wanted[::3]
        assert [bytes(data) for data in extent.payloads(some)] == [payload(grain, size) for grain, _ in some]
        assert extent.descriptor() == (embedded() if alone else b"")


@settings(deadline=None, max_examples=40)
@given(GRAINS, GRAINS, st.integers(1, 80))
def test_runs_make_the_same_file_as_single_grains(grains, zeros, most):
    """Whatever is joined into a run, tables that end within it included."""
    store = MemoryStore()
    write(store, grains, zeros, size=500)
    order = sorted(grains | zeros)
    with store.create("runs") as file:
        writer = ExtentWriter(file, CAPACITY, None)
        for begin in range(0, len(order), most):
            run = order[begin : begin + most]
            records = [b"" if grain in zeros else record(grain, payload(grain, 500)) for grain in run]
            placed = [(grain, len(data)) for grain, data in zip(run, records, strict=True)]
            writer.add_run(placed, b"".join(records))
            writer.flush()
        writer.finish()
    with store.open("e") as one, store.open("runs") as other:
        assert one.size == other.size
        assert one.read_at(0, one.size) == other.read_at(0, other.size)


def test_grains_must_rise_and_lie_on_the_extent():
    with MemoryStore().create("e") as file:
        writer = ExtentWriter(file, CAPACITY, None)
        writer.add(5, b"")
        for grain in (5, 4, 1101, -1):
            with pytest.raises(ValueError, match="after"):
                writer.add(grain, b"")


def test_qemu_reads_it(tmp_path):
    store = PosixStore(tmp_path)
    write(store, {0, 1, 600, 1100}, {7, 601}, descriptor=embedded("e.vmdk"), path="e.vmdk")
    store.close()

    def qemu(*words):
        words = ["qemu-img", *words, tmp_path / "e.vmdk"]
        return subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout

    assert json.loads(qemu("info", "--output=json"))["virtual-size"] == CAPACITY
    assert "No errors were found" in qemu("check")
    areas = json.loads(qemu("map", "--output=json"))
    data = [(area["start"] // GRAIN_BYTES, area["length"]) for area in areas if area["data"]]
    assert data == [(0, 2 * GRAIN_BYTES), (600, GRAIN_BYTES), (1100, 5 * 512)]


def opened(content):
    store = MemoryStore()
    with store.create("e") as file:
        file.append([content])
    return store.open("e")


def content_of(grains=(0, 3), zeros=(4,)):
    store = MemoryStore()
    write(store, set(grains), set(zeros), capacity=10 * GRAIN_BYTES)
    return bytes(store.content("e"))


def everything(content):
    """All that a reader would get from an extent."""
    extent = ExtentReader(opened(content), 10 * GRAIN_BYTES, MOST)
    entries = dict(extent.entries())
    wanted = sorted(((grain, sector) for grain, sector in entries.items() if sector > 1), key=lambda pair: pair[1])
    return entries, [bytes(data) for data in extent.payloads(wanted)]


def test_every_flipped_byte_is_refused_or_changes_only_what_seals_cover():
    content = content_of()
    _, data = everything(content)
    seen, places = set(), []

    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 0x81
        try:
            entries, found = everything(bytes(altered))
        except LayoutError as error:
            seen.add("refused")
            places.append((error.offset, error.length))
        else:
            # Payload bytes and padding: tags, digests and the digest list are for those.
            assert len(entries) == 3
            seen.add("other data" if found != data else "same")
    assert all(0 <= offset <= len(content) and length >= 0 for offset, length in places)
    assert seen == {"refused", "other data", "same"}


def test_every_cut_is_refused():
    content = content_of()

    for length in range(len(content)):
        with pytest.raises(LayoutError):
            ExtentReader(opened(content[:length]), 10 * GRAIN_BYTES, MOST)
    with pytest.raises(LayoutError):
        ExtentReader(opened(content + bytes(512)), 10 * GRAIN_BYTES, MOST)


def test_an_unfinished_extent_is_refused():
    store = MemoryStore()
    with store.create("e") as file:
        writer = ExtentWriter(file, CAPACITY, None)
        writer.add(0, record(0, b"x"))
        writer.flush()

        with pytest.raises(LayoutError, match="cut or unfinished"):
            ExtentReader(store.open("e"), CAPACITY, MOST)


def test_another_capacity_is_refused():
    with pytest.raises(LayoutError, match="capacity"):
        ExtentReader(opened(content_of()), 11 * GRAIN_BYTES, MOST)
    with pytest.raises(ValueError):
        ExtentReader(opened(content_of()), EXTENT_MOST_BYTES + 512, MOST)


def test_records_that_lie_are_refused():
    content = content_of()
    extent = ExtentReader(opened(content), 10 * GRAIN_BYTES, MOST)
    sector = extent.entry(3)
    for grain, where in [(2, sector), (3, sector - 1), (3, len(content) // 512 + 5), (3, len(content) // 512 - 1)]:
        with pytest.raises(LayoutError):
            list(extent.payloads([(grain, where)]))
    altered = bytearray(content)
    struct.pack_into("<I", altered, sector * 512 + 8, MOST + 1)
    with pytest.raises(LayoutError, match="marker"):
        list(ExtentReader(opened(bytes(altered)), 10 * GRAIN_BYTES, MOST).payloads([(3, sector)]))
    struct.pack_into("<I", altered, sector * 512 + 8, MOST)
    with pytest.raises(LayoutError, match="cut short"):
        list(ExtentReader(opened(bytes(altered)), 10 * GRAIN_BYTES, MOST).payloads([(3, sector)]))


def test_a_table_past_the_end_is_refused():
    store = MemoryStore()
    write(store, {0}, capacity=600 * GRAIN_BYTES)
    content = store.content("e")
    header = Header.unpack(bytes(content[:512]))
    # The second directory entry names the first table: grains 512 to 599 exist, grain 512 + 100 does not.
    at = header.directory_offset * 512
    content[at + 4 : at + 8] = content[at : at + 4]
    table = struct.unpack_from("<I", content, at)[0] * 512
    struct.pack_into("<I", content, table + 4 * 100, 1)

    with pytest.raises(LayoutError, match="past the end"):
        list(ExtentReader(store.open("e"), 600 * GRAIN_BYTES, MOST).entries())


@settings(max_examples=200)
@given(st.binary(max_size=3000))
def test_garbage_is_refused(content):
    with pytest.raises(LayoutError):
        ExtentReader(opened(content), 10 * GRAIN_BYTES, MOST)


def test_sizes():
    assert grain_record_bytes(500) == 512
    assert grain_record_bytes(501) == 1024
    assert extent_capacities(EXTENT_MOST_BYTES) == (EXTENT_MOST_BYTES,)
    assert extent_capacities(2 * EXTENT_MOST_BYTES + 512) == (EXTENT_MOST_BYTES, EXTENT_MOST_BYTES, 512)
    assert sum(extent_capacities(62 << 40)) == 62 << 40
    assert entry_of((1 << 41) - 512) == (1 << 32) - 1
    with pytest.raises(OverflowError):
        entry_of(1 << 41)


def test_a_descriptor_must_fit_its_room():
    lines = [ExtentLine(1, "SPARSE", f"disk-2000-s{number:03d}.vmdk") for number in range(1000)]
    with pytest.raises(ValueError, match="room"):
        Descriptor(STREAM, 1, lines).embedded()


def test_ide_geometry_is_bounded():
    text = Descriptor("monolithicFlat", 1, [ExtentLine(1 << 30, "FLAT", "a-flat.vmdk")], "ide").encode().decode()

    assert 'ddb.geometry.cylinders = "16383"' in text
    assert 'ddb.geometry.heads = "16"' in text
    assert 'RW 1073741824 FLAT "a-flat.vmdk" 0' in text

"""Digest lists: what was listed is found again, whatever was altered or forged is refused."""

import struct

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from common.ids import DiskKey, ReplicaId
from target_appliance.recovery.digests import (
    CHUNK_BYTES,
    DigestedFile,
    DigestList,
    DigestListError,
    DigestListWriter,
)
from target_appliance.store.memory import MemoryStore

REPLICA = ReplicaId("4c4c4544-0051-3010-8052-b4c04f564231")
DISK = DiskKey(2000)
SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES]


def content_of(size):
    return bytes(range(251)) * (size // 251) + bytes(range(size % 251))


def chunk_digests(content):
    return b"".join(
        blake3(content[at : at + CHUNK_BYTES]).digest(length=16) for at in range(0, len(content), CHUNK_BYTES)
    )


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece", [1000, 65_537, 2 * CHUNK_BYTES])
def test_a_file_is_digested_as_it_is_written(size, piece):
    store, content = MemoryStore(), content_of(size)
    with DigestedFile(store.create("f")) as file:
        for at in range(0, size, piece):
            file.append([content[at : at + piece // 2], memoryview(content)[at + piece // 2 : at + piece]])
        if size > 600:
            file.overwrite(100, b"x" * 500)
            content = content[:100] + b"x" * 500 + content[600:]
        with pytest.raises(ValueError, match="first chunk"):
            file.overwrite(min(size, CHUNK_BYTES), b"x")
        file.sync()
        assert file.position == size
        assert file.digests() == chunk_digests(content)
    assert store.content("f") == content


def listed(files):
    store = MemoryStore()
    with store.create("list") as file:
        writer = DigestListWriter(file, REPLICA, DISK, 3)
        for name, content in files.items():
            writer.add(name, len(content), chunk_digests(content))
        writer.finish()
    return store


def opened(store):
    return DigestList(store.open("list"), REPLICA, DISK, 3)


@pytest.mark.parametrize("sizes", [[], [0], SIZES, [200 * CHUNK_BYTES]])
def test_round_trip(sizes):
    files = {f"file-{number}": content_of(size) for number, size in enumerate(sizes)}
    found = opened(listed(files))

    assert {entry.name: entry.size for entry in found.files} == {name: len(content) for name, content in files.items()}
    for entry in found.files:
        assert b"".join(found.digests(entry)) == chunk_digests(files[entry.name])


def test_every_flipped_byte_and_cut_shows():
    store = listed({"a": content_of(5), "b": content_of(6)})
    content = bytes(store.content("list"))
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 4
        store.content("list")[:] = altered
        with pytest.raises(DigestListError):
            opened(store)
        store.content("list")[:] = content[:place]
        with pytest.raises(DigestListError):
            opened(store)


@pytest.mark.parametrize("place", [(REPLICA, DISK, 4), (REPLICA, DiskKey(2001), 3)], ids=["point", "disk"])
def test_another_places_list_is_refused(place):
    with pytest.raises(DigestListError, match="header"):
        DigestList(listed({}).open("list"), *place)


@settings(max_examples=300)
@given(st.binary(max_size=120), st.integers(0, 200), st.integers(0, 5))
def test_forged_directories_are_refused_or_bounded(directory, offset, entries):
    """Whoever writes the store makes the list's own digest fit; nothing but DigestListError may come of it."""
    store = listed({})
    body = bytes(store.content("list")[:64]) + directory
    body += struct.pack("<QII", offset, entries, 0)
    store.content("list")[:] = body + blake3(body).digest()
    try:
        found = opened(store)
    except DigestListError:
        return
    assert sum(len(list(found.digests(entry))) for entry in found.files) <= len(found.files) * len(body)

"""Digests of stored bytes, in the clear: what lets anybody find a damaged MiB without a key.

A disk's digest list holds, for every file of the disk at a point, BLAKE3-128 of each MiB in order; then a directory of
the files; then a trailer with BLAKE3-256 of all before it. To the byte: docs/format.md.
"""

import struct
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from common.closing import Closing
from common.grain import DIGEST_BYTES
from common.ids import DiskKey, PointNumber, ReplicaId
from target_appliance.seal.keys import FORMAT_VERSION
from target_appliance.store.port import ReadFile, WriteFile

CHUNK_BYTES: Final = 1 << 20
MAGIC: Final = b"KSADIGE\n"
_HEADER: Final = struct.Struct("<8sII16sII24x")
"""Magic, format version, bytes per chunk, replica, disk, point, zeros."""
_ENTRY: Final = struct.Struct("<H6xQQ")
"""Length of the name that follows, bytes of the file, number of its first digest."""
_TRAILER: Final = struct.Struct("<QII32s")
"""Offset of the directory, entries in it, zero, BLAKE3-256 of everything before this digest."""
_SELF_DIGEST_BYTES: Final = 32
_NAME_MOST: Final = 255
_READ_BYTES: Final = 1 << 20


class DigestListError(Exception):
    """A digest list is not what was written."""


def list_header(replica: ReplicaId, disk: DiskKey, point: PointNumber) -> bytes:
    """The 64 bytes that begin a digest list."""
    return _HEADER.pack(MAGIC, FORMAT_VERSION, CHUNK_BYTES, uuid.UUID(replica).bytes, disk, point)


class DigestedFile(Closing):
    """A file being written whose chunks are digested on the way. Passes everything on to ``file``, which it owns.

    The first chunk is kept until the end, because it holds the header that is overwritten.
    """

    def __init__(self, file: WriteFile) -> None:
        self._file = file
        self._first = bytearray()
        self._rest = bytearray()
        self._state = blake3()
        self._room = CHUNK_BYTES

    @property
    def position(self) -> int:
        """See WriteFile."""
        return self._file.position

    def append(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """See WriteFile."""
        self._file.append(pieces)
        for piece in pieces:
            view = memoryview(piece)
            if len(self._first) < CHUNK_BYTES:
                taken = min(CHUNK_BYTES - len(self._first), len(view))
                self._first += view[:taken]
                view = view[taken:]
            while view:
                taken = min(self._room, len(view))
                self._state.update(view[:taken])
                view = view[taken:]
                self._room -= taken
                if not self._room:
                    self._end_chunk()

    def overwrite(self, offset: int, data: bytes) -> None:
        """See WriteFile; only within the first chunk."""
        if offset + len(data) > len(self._first):
            raise ValueError("only the first chunk may be overwritten")
        self._file.overwrite(offset, data)
        self._first[offset : offset + len(data)] = data

    def sync(self) -> None:
        """See WriteFile."""
        self._file.sync()

    def close(self) -> None:
        """See WriteFile."""
        self._file.close()

    def digests(self) -> bytes:
        """All chunks' digests, joined; call once, when all is written."""
        if self._room < CHUNK_BYTES:
            self._end_chunk()
        first = blake3(self._first).digest(length=DIGEST_BYTES) if self._first else b""
        return first + bytes(self._rest)

    def _end_chunk(self) -> None:
        self._rest += self._state.digest(length=DIGEST_BYTES)
        self._state = blake3()
        self._room = CHUNK_BYTES


class DigestListWriter:
    """A digest list being written. ``file`` stays the caller's to sync and close."""

    def __init__(self, file: WriteFile, replica: ReplicaId, disk: DiskKey, point: PointNumber) -> None:
        self._file = file
        self._state = blake3()
        self._digests = 0
        self._directory: list[bytes] = []
        self._put(list_header(replica, disk, point))

    def add(self, name: str, size: int, digests: bytes) -> None:
        """Add a finished file."""
        encoded = name.encode("ascii")
        self._directory.append(_ENTRY.pack(len(encoded), size, self._digests) + encoded)
        self._digests += len(digests) // DIGEST_BYTES
        self._put(digests)

    def finish(self) -> None:
        """Write directory and trailer."""
        offset = self._file.position
        self._put(b"".join(self._directory))
        trailer = _TRAILER.pack(offset, len(self._directory), 0, bytes(_SELF_DIGEST_BYTES))
        self._put(trailer[:-_SELF_DIGEST_BYTES])
        self._file.append([self._state.digest()])

    def _put(self, piece: bytes) -> None:
        self._state.update(piece)
        self._file.append([piece])


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A file that a digest list covers."""

    name: str
    size: int
    first: int
    """Number of its first digest in the list."""

    @property
    def chunks(self) -> int:
        """Digests it has."""
        return -(-self.size // CHUNK_BYTES)


class DigestList:
    """A digest list, checked as a whole; ``file`` stays the caller's to close.

    Raises:
        DigestListError: any byte of it differs from what was written.
    """

    def __init__(self, file: ReadFile, replica: ReplicaId, disk: DiskKey, point: PointNumber) -> None:
        self._file = file
        if file.read_at(0, _HEADER.size) != list_header(replica, disk, point):
            raise DigestListError("its header does not fit")
        body = file.size - _TRAILER.size
        if body < _HEADER.size:
            raise DigestListError("it is cut short")
        offset, entries, zero, mark = _TRAILER.unpack(file.read_at(body, _TRAILER.size))
        if self._self_digest() != mark or zero or not _HEADER.size <= offset <= body:
            raise DigestListError("its own digest does not fit")
        try:
            self.files = tuple(_directory(file.read_at(offset, body - offset), entries))
        except (struct.error, UnicodeDecodeError):
            raise DigestListError("its directory cannot be") from None
        held = (offset - _HEADER.size) // DIGEST_BYTES
        if any(listed.first + listed.chunks > held for listed in self.files):
            raise DigestListError("its directory names digests that are not there")

    def digests(self, listed: ListedFile) -> Iterator[bytes]:
        """The digest of each chunk of ``listed``, in order."""
        count = listed.chunks
        at = _HEADER.size + listed.first * DIGEST_BYTES
        while count:
            taken = min(count, _READ_BYTES // DIGEST_BYTES)
            block = self._file.read_at(at, taken * DIGEST_BYTES)
            for place in range(taken):
                yield block[place * DIGEST_BYTES : (place + 1) * DIGEST_BYTES]
            count -= taken
            at += len(block)

    def _self_digest(self) -> bytes:
        state = blake3()
        offset, end = 0, self._file.size - _SELF_DIGEST_BYTES
        while offset < end:
            block = self._file.read_at(offset, min(_READ_BYTES, end - offset))
            if not block:
                break
            state.update(block)
            offset += len(block)
        return state.digest()


def _directory(raw: bytes, entries: int) -> Iterator[ListedFile]:
    at = 0
    for _ in range(entries):
        length, size, first = _ENTRY.unpack_from(raw, at)
        at += _ENTRY.size
        name = raw[at : at + min(length, _NAME_MOST)].decode("ascii")
        at += length
        yield ListedFile(name, size, first)

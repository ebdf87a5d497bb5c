"""A sparse extent of any maker: hosted sparse, or stream-optimised with deflated grains.

Nothing of the file is believed before it is checked; memory is the directory and a few grain tables.
"""

import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any, Final

from common.errors import InvalidInputError
from common.extent import Extent
from common.grain import MAX_CAPACITY_BYTES
from target_appliance.seed.source_file import SourceFile, refuse
from target_appliance.vmdk.layout import (
    COMPRESSION_DEFLATE,
    FLAG_COMPRESSED,
    FLAG_MARKERS,
    FLAG_ZERO_GRAINS,
    GRAIN_MARKER,
    SECTOR_BYTES,
    TABLE_ENTRIES,
)

MAGIC: Final = b"KDMV"
_HEADER: Final = struct.Struct("<4sIIQQQQIQQQB4sH433x")
_DIRECTORY_AT_END: Final = (1 << 64) - 1
_FOOTER_FROM_END: Final = 2 * SECTOR_BYTES
_GRAIN_SECTORS: Final = frozenset(1 << power for power in range(12))
"""Up to 1 MiB; everybody writes 128."""
_KEPT_TABLES: Final = 64
_EXPECTED_PAYLOAD: Final = 16 << 10
"""Read together with a grain's marker; what is longer takes a second read."""


class SparseExtent:
    """One extent. Thread-safe; ``file`` stays the caller's.

    Raises:
        InvalidInputError: its structure does not fit.
    """

    def __init__(self, file: SourceFile) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._tables: OrderedDict[int, tuple[int, ...]] = OrderedDict()
        fields = self._header(0)
        if fields[9] == _DIRECTORY_AT_END:
            fields = self._header(file.size - _FOOTER_FROM_END)
        _, version, flags, capacity, grain, text_at, text, entries, _, directory, _, _, _, compression = fields
        if version not in {1, 2, 3} or grain not in _GRAIN_SECTORS or entries != TABLE_ENTRIES:
            raise self._refuse("its header is of an unknown kind")
        self._packed = bool(flags & FLAG_COMPRESSED)
        if self._packed and not (flags & FLAG_MARKERS and compression == COMPRESSION_DEFLATE):
            raise self._refuse("it is compressed in an unknown way")
        self.capacity_bytes = capacity * SECTOR_BYTES
        if not 0 < self.capacity_bytes <= MAX_CAPACITY_BYTES:
            raise self._refuse(f"a capacity of {self.capacity_bytes} bytes cannot be")
        self._zero_entry = 1 if flags & FLAG_ZERO_GRAINS else 0
        self._grain_bytes = grain * SECTOR_BYTES
        self._span_bytes = TABLE_ENTRIES * self._grain_bytes
        self._directory = self._numbers(directory, -(-self.capacity_bytes // self._span_bytes))
        self._text = (text_at * SECTOR_BYTES, text * SECTOR_BYTES)

    def descriptor(self, most_bytes: int) -> bytes:
        """The embedded descriptor, at most so many bytes; empty when there is none."""
        offset, length = self._text
        return self._file.read_at(offset, min(length, most_bytes))

    def allocated(self) -> Iterator[Extent]:
        """Where it holds grains that are not known to be zeros, rising."""
        begin = end = 0
        for number, sector in enumerate(self._directory):
            for place, entry in enumerate(self._table(number) if sector else ()):
                if entry <= self._zero_entry:
                    continue
                offset = number * self._span_bytes + place * self._grain_bytes
                if offset >= self.capacity_bytes:  # the last table is longer than the disk
                    break
                if offset != end:
                    yield Extent(begin, end - begin)
                    begin = offset
                end = min(offset + self._grain_bytes, self.capacity_bytes)
        yield Extent(begin, max(begin, end) - begin)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Put what it holds of the bytes from ``offset`` on into ``buffer``, which is all zeros."""
        while buffer:
            grain, within = divmod(offset, self._grain_bytes)
            length = min(len(buffer), self._grain_bytes - within)
            number, place = divmod(grain, TABLE_ENTRIES)
            entry = self._table(number)[place] if self._directory[number] else 0
            if entry <= self._zero_entry:
                pass
            elif self._packed:
                buffer[:length] = self._unpacked(grain, entry * SECTOR_BYTES)[within : within + length]
            else:
                self._file.read_into(entry * SECTOR_BYTES + within, buffer[:length])
            offset, buffer = offset + length, buffer[length:]

    def _unpacked(self, grain: int, offset: int) -> bytes:
        start = self._file.read_at(offset, min(_EXPECTED_PAYLOAD, max(self._file.size - offset, GRAIN_MARKER.size)))
        first, size = GRAIN_MARKER.unpack_from(start)
        rest = GRAIN_MARKER.size + size - len(start)
        # Deflate makes what does not shrink longer by a thousandth at most.
        if first * SECTOR_BYTES != grain * self._grain_bytes or size > self._grain_bytes + self._grain_bytes // 16:
            raise self._refuse(f"the marker at byte {offset} is not that of its grain")
        packed = start[GRAIN_MARKER.size : GRAIN_MARKER.size + size]
        if rest > 0:
            packed += self._file.read_at(offset + len(start), rest)
        inflate = zlib.decompressobj()
        try:
            data = inflate.decompress(packed, self._grain_bytes + 1)
        except zlib.error:
            data = b""
        whole = min(self._grain_bytes, self.capacity_bytes - grain * self._grain_bytes)
        if not inflate.eof or not whole <= len(data) <= self._grain_bytes:
            raise self._refuse(f"the grain at byte {offset} does not inflate to its length")
        return data

    def _table(self, number: int) -> tuple[int, ...]:
        with self._lock:
            if (table := self._tables.get(number)) is not None:
                self._tables.move_to_end(number)
                return table
        table = self._numbers(self._directory[number], TABLE_ENTRIES)
        with self._lock:
            self._tables[number] = table
            if len(self._tables) > _KEPT_TABLES:
                self._tables.popitem(last=False)
        return table

    def _numbers(self, sector: int, count: int) -> tuple[int, ...]:
        if not 0 < sector <= self._file.size // SECTOR_BYTES - -(-4 * count // SECTOR_BYTES):
            raise self._refuse(f"a table of sector {sector} is not in it")
        return struct.unpack(f"<{count}I", self._file.read_at(sector * SECTOR_BYTES, 4 * count))

    def _header(self, offset: int) -> tuple[Any, ...]:
        if not 0 <= offset <= self._file.size - SECTOR_BYTES:
            raise self._refuse("it is cut short")
        fields = _HEADER.unpack(self._file.read_at(offset, SECTOR_BYTES))
        if fields[0] != MAGIC:
            raise self._refuse("its footer is missing: it is cut short")
        return fields

    def _refuse(self, why: str) -> InvalidInputError:
        return refuse(self._file.path, why)

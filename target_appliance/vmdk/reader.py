"""Reads a stream-optimised extent: which grains it holds and where, and their payloads. Knows no keys.

Everything read from the file is checked before it is believed; memory is a directory and a few grain tables.
"""

import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Final

from common.grain import grain_count
from target_appliance.store.port import ReadFile
from target_appliance.vmdk.layout import (
    ENTRY_HOLE,
    EXTENT_MOST_BYTES,
    GRAIN_MARKER,
    GRAIN_SECTORS,
    MARKER_END,
    MARKER_FOOTER,
    SECTOR_BYTES,
    TABLE_BYTES,
    TABLE_ENTRIES,
    Header,
    grain_record_bytes,
    marker,
    table_count,
)

_KEPT_TABLES: Final = 64
_RUN_BYTES: Final = 1 << 20
"""Most bytes read at once when neighbouring records are wanted."""
_TABLE: Final = struct.Struct(f"<{TABLE_ENTRIES}I")
_TAIL_BYTES: Final = 3 * SECTOR_BYTES


class LayoutError(Exception):
    """An extent's structure does not fit. ``offset`` and ``length`` name the bytes of the file."""

    def __init__(self, message: str, offset: int, length: int) -> None:
        super().__init__(message)
        self.offset = offset
        self.length = length


class ExtentReader:
    """One extent. Thread-safe; ``file`` stays the caller's to close.

    Args:
        file: the extent.
        capacity_bytes: what the extent must cover.
        payload_most: largest payload of a grain that is believed.

    Raises:
        LayoutError: header, directory or tail are not those of such an extent.
    """

    def __init__(self, file: ReadFile, capacity_bytes: int, payload_most: int) -> None:
        if capacity_bytes > EXTENT_MOST_BYTES:
            raise ValueError("the extent is larger than extents get")
        self._file = file
        self._payload_most = payload_most
        self._grains = grain_count(capacity_bytes)
        self._lock = threading.Lock()
        self._tables: OrderedDict[int, tuple[int, ...]] = OrderedDict()
        sector = file.read_at(0, SECTOR_BYTES)
        try:
            self.header = Header.unpack(sector)
        except ValueError as error:
            raise LayoutError(str(error), 0, SECTOR_BYTES) from None
        if self.header.capacity != capacity_bytes // SECTOR_BYTES:
            raise LayoutError("its capacity is not the disk's", 0, SECTOR_BYTES)
        self._check_tail(sector)
        count = table_count(capacity_bytes)
        raw = self._region(self.header.directory_offset, 4 * count, "grain directory")
        self._directory = struct.unpack(f"<{count}I", raw)

    def descriptor(self) -> bytes:
        """The embedded descriptor's room, padding included; empty when there is none."""
        return self._file.read_at(SECTOR_BYTES, self.header.descriptor_size * SECTOR_BYTES)

    def entry(self, grain: int) -> int:
        """The grain's table entry: ENTRY_HOLE, ENTRY_ZERO, or the sector of its record.

        Raises:
            LayoutError: the table is not in the file.
        """
        number, place = divmod(grain, TABLE_ENTRIES)
        return self._table(number)[place] if number < len(self._directory) else 0

    def entries(self) -> Iterator[tuple[int, int]]:
        """All grains that the extent holds with their entries, rising.

        Raises:
            LayoutError: a table is not in the file, or names grains past the capacity.
        """
        for number, sector in enumerate(self._directory):
            for place, entry in enumerate(self._table(number) if sector else ()):
                if entry:
                    grain = number * TABLE_ENTRIES + place
                    if grain >= self._grains:
                        raise LayoutError("a table names a grain past the end", sector * SECTOR_BYTES, TABLE_BYTES)
                    yield grain, entry

    def tables(self) -> Iterator[tuple[int, int]]:
        """Grain tables that the extent has, rising: their numbers, and the sectors at which they stand."""
        yield from ((number, sector) for number, sector in enumerate(self._directory) if sector)

    def table(self, number: int) -> tuple[int, ...]:
        """The entries of a grain table; all ENTRY_HOLE where the extent has none. Raises LayoutError."""
        return self._table(number) if number < len(self._directory) else (ENTRY_HOLE,) * TABLE_ENTRIES

    def payloads(self, wanted: Sequence[tuple[int, int]]) -> Iterator[memoryview]:
        """Payloads of the grains ``wanted``, pairs of grain and sector, sectors rising. One read per MiB of records.

        Raises:
            LayoutError: a record is not that grain's.
        """
        most = grain_record_bytes(self._payload_most)
        run, run_offset = memoryview(b""), 0
        for place, (grain, sector) in enumerate(wanted):
            offset = sector * SECTOR_BYTES
            begin = offset - run_offset
            if begin < 0 or not self._holds(run, begin):
                stop = offset + most
                for _, later in wanted[place + 1 :]:
                    if not 0 <= later * SECTOR_BYTES + most - offset <= _RUN_BYTES:
                        break
                    stop = later * SECTOR_BYTES + most
                run, run_offset, begin = memoryview(self._file.read_at(offset, stop - offset)), offset, 0
            yield self._payload(run[begin:], grain, offset)

    @staticmethod
    def _holds(run: memoryview, begin: int) -> bool:
        """Whether the record at ``begin`` lies in ``run`` as a whole."""
        if begin + GRAIN_MARKER.size > len(run):
            return False
        _, size = GRAIN_MARKER.unpack_from(run, begin)
        return bool(begin + GRAIN_MARKER.size + size <= len(run))

    def _payload(self, record: memoryview, grain: int, offset: int) -> memoryview:
        if len(record) < GRAIN_MARKER.size:
            raise LayoutError(f"grain {grain} lies past the end of the file", min(offset, self._file.size), len(record))
        first, size = GRAIN_MARKER.unpack_from(record)
        if first != grain * GRAIN_SECTORS or not 0 < size <= self._payload_most:
            raise LayoutError(f"the marker of grain {grain} does not fit", offset, GRAIN_MARKER.size)
        payload = record[GRAIN_MARKER.size : GRAIN_MARKER.size + size]
        if len(payload) != size:
            raise LayoutError(f"grain {grain} is cut short", offset, len(record))
        return payload

    def _table(self, number: int) -> tuple[int, ...]:
        with self._lock:
            table = self._tables.get(number)
            if table is not None:
                self._tables.move_to_end(number)
                return table
        sector = self._directory[number]
        table = _TABLE.unpack(self._region(sector, TABLE_BYTES, "grain table")) if sector else (0,) * TABLE_ENTRIES
        with self._lock:
            self._tables[number] = table
            if len(self._tables) > _KEPT_TABLES:
                self._tables.popitem(last=False)
        return table

    def _region(self, sector: int, length: int, what: str) -> bytes:
        offset = sector * SECTOR_BYTES
        if not 0 < offset <= self._file.size - length:
            raise LayoutError(f"its {what} is not in the file", min(offset, self._file.size), length)
        return self._file.read_at(offset, length)

    def _check_tail(self, header: bytes) -> None:
        offset = self._file.size - _TAIL_BYTES
        expected = marker(MARKER_FOOTER, 1) + header + marker(MARKER_END, 0)
        if self._file.size % SECTOR_BYTES or offset < 0 or self._file.read_at(offset, _TAIL_BYTES) != expected:
            raise LayoutError("its footer does not fit: it is cut or unfinished", max(offset, 0), _TAIL_BYTES)

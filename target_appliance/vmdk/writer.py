"""Writes one stream-optimised extent front to back: grains in rising order, one grain table in memory at a time."""

import struct
from array import array
from collections.abc import Sequence
from typing import Final

from common.grain import grain_count
from target_appliance.store.port import WriteFile
from target_appliance.vmdk.layout import (
    DESCRIPTOR_SECTORS,
    ENTRY_ZERO,
    MARKER_DIRECTORY,
    MARKER_END,
    MARKER_FOOTER,
    MARKER_TABLE,
    SECTOR_BYTES,
    TABLE_BYTES,
    TABLE_ENTRIES,
    Header,
    marker,
    padded,
    table_count,
)

Buffer = bytes | bytearray | memoryview
_ENTRY_MOST: Final = (1 << 32) - 1
_EMPTY_TABLE: Final = bytes(TABLE_BYTES)


def little_endian(entries: "array[int]") -> bytes:
    """Table entries as they stand in a file."""
    return struct.pack(f"<{len(entries)}I", *entries)


def entry_of(position: int) -> int:
    """The table entry for a record at byte ``position``.

    Raises:
        OverflowError: the file has outgrown the format, whose entries are 32-bit sector numbers.
    """
    sector = position // SECTOR_BYTES
    if sector > _ENTRY_MOST:
        raise OverflowError("the file is larger than 2 TiB")
    return sector


class ExtentWriter:
    """A sparse extent being written. Not thread-safe; ``file`` stays the caller's to sync and close.

    Args:
        file: new and empty.
        capacity_bytes: of the extent, whole sectors.
        descriptor: embedded descriptor, exactly DESCRIPTOR_SECTORS long, or None for an extent that has one beside it.
    """

    def __init__(self, file: WriteFile, capacity_bytes: int, descriptor: bytes | None) -> None:
        self._file = file
        self._capacity = capacity_bytes
        self._grains = grain_count(capacity_bytes)
        self._embedded = descriptor is not None
        self._directory = array("I", bytes(4 * table_count(capacity_bytes)))
        self._table_number = -1
        self._table = array("I", _EMPTY_TABLE)
        self._last_grain = -1
        self._pieces: list[Buffer] = []
        self._position = 0
        # A reader that meets the file before it is finished finds no directory: the real header comes last.
        self._put(self._header(0).pack())
        # Without a descriptor a sector stays empty: a table entry of 1 would not mean sector 1, but zeros.
        self._put(bytes(SECTOR_BYTES) if descriptor is None else descriptor)

    def add(self, grain: int, record: Buffer) -> None:
        """Place one grain's record; as ``add_run``."""
        self.add_run(((grain, len(record)),), record)

    def add_run(self, placed: Sequence[tuple[int, int]], records: Buffer) -> None:
        """Place records (marker, payload, padding to whole sectors) that stand behind one another; ``flush`` writes.

        Args:
            placed: index within the extent, higher than any before, and bytes of its record; none of a grain that is
                zeros, whatever the parent holds.
            records: all of them; must stay unchanged until ``flush``.
        """
        view = memoryview(records)
        begin = at = 0
        for grain, size in placed:
            if at > begin and grain // TABLE_ENTRIES != self._table_number:
                self._put(view[begin:at])
                begin = at
            self._enter(grain)
            entry = entry_of(self._position + at - begin) if size else ENTRY_ZERO
            self._table[grain % TABLE_ENTRIES] = entry
            at += size
        if at > begin:
            self._put(view[begin:at])

    def next_position(self, grain: int) -> int:
        """Where the record of ``grain``, higher than any before, would begin in the file."""
        ends_table = 0 <= self._table_number != grain // TABLE_ENTRIES
        return self._position + (SECTOR_BYTES + TABLE_BYTES if ends_table else 0)

    def flush(self) -> None:
        """Hand what was added to the file; buffers are free afterwards."""
        pieces, self._pieces = self._pieces, []
        if pieces:
            self._file.append(pieces)

    def finish(self) -> None:
        """Write directory, footer and the real header; nothing may be added afterwards."""
        self._end_table()
        directory = little_endian(self._directory)
        room = padded(len(directory))
        self._put(marker(MARKER_DIRECTORY, room // SECTOR_BYTES))
        header = self._header(self._position // SECTOR_BYTES).pack()
        self._put(directory.ljust(room, b"\0"))
        self._put(marker(MARKER_FOOTER, 1))
        self._put(header)
        self._put(marker(MARKER_END, 0))
        self.flush()
        self._file.overwrite(0, header)

    def _enter(self, grain: int) -> None:
        if not self._last_grain < grain < self._grains:
            raise ValueError(f"grain {grain} after {self._last_grain} of {self._grains}")
        self._last_grain = grain
        number = grain // TABLE_ENTRIES
        if number != self._table_number:
            self._end_table()
            self._table_number = number

    def _end_table(self) -> None:
        if self._table_number < 0:
            return
        self._put(marker(MARKER_TABLE, TABLE_BYTES // SECTOR_BYTES))
        self._directory[self._table_number] = entry_of(self._position)
        self._put(little_endian(self._table))
        self._table = array("I", _EMPTY_TABLE)
        self._table_number = -1

    def _put(self, piece: Buffer) -> None:
        self._pieces.append(piece)
        self._position += len(piece)

    def _header(self, directory_offset: int) -> Header:
        descriptor = DESCRIPTOR_SECTORS if self._embedded else 0
        return Header(
            capacity=self._capacity // SECTOR_BYTES,
            descriptor_offset=1 if self._embedded else 0,
            descriptor_size=descriptor,
            directory_offset=directory_offset,
            overhead=1 + max(descriptor, 1),
        )

"""A monolithicSparse VMDK, front to back: tables have their room ahead of the data, grains follow in rising order."""

from array import array

from common.grain import GRAIN_BYTES
from common.output_file import Output
from target_appliance.vmdk.layout import (
    DESCRIPTOR_SECTORS,
    FLAG_NEWLINES,
    FLAG_REDUNDANT,
    GRAIN_SECTORS,
    SECTOR_BYTES,
    TABLE_BYTES,
    TABLE_ENTRIES,
    VERSION_SPARSE,
    Header,
    padded,
    table_count,
)
from target_appliance.vmdk.writer import entry_of, little_endian

_TABLE_SECTORS = TABLE_BYTES // SECTOR_BYTES


class SparseWriter:
    """Not thread-safe. ``output`` is new, and stays the caller's. Holds one grain table in memory."""

    def __init__(self, output: Output, capacity_bytes: int, descriptor: bytes) -> None:
        self._output = output
        tables = table_count(capacity_bytes)
        directory_sectors = padded(4 * tables) // SECTOR_BYTES
        one = directory_sectors + tables * _TABLE_SECTORS
        # Two copies of directory and tables: the redundant one, then the one that readers use.
        self._directories = (1 + DESCRIPTOR_SECTORS, 1 + DESCRIPTOR_SECTORS + one)
        self._first_table = directory_sectors
        overhead = self._directories[1] + one
        self._overhead = -(-overhead // GRAIN_SECTORS) * GRAIN_SECTORS
        self._number = -1
        self._table = array("I")
        header = Header(
            capacity=capacity_bytes // SECTOR_BYTES,
            descriptor_offset=1,
            descriptor_size=DESCRIPTOR_SECTORS,
            directory_offset=self._directories[1],
            overhead=self._overhead,
            version=VERSION_SPARSE,
            flags=FLAG_NEWLINES | FLAG_REDUNDANT,
            compression=0,
            redundant_offset=self._directories[0],
        )
        output.append([header.pack(), descriptor])
        for directory in self._directories:
            entries = array("I", (directory + directory_sectors + number * _TABLE_SECTORS for number in range(tables)))
            output.overwrite(directory * SECTOR_BYTES, little_endian(entries))
        output.skip_to(self._overhead * SECTOR_BYTES)

    def add(self, grain: int, data: bytes) -> None:
        """Write a grain; indices rise. Raises OverflowError when the file outgrows the format."""
        number, place = divmod(grain, TABLE_ENTRIES)
        if number != self._number:
            self._end_table()
            self._number = number
            self._table = array("I", bytes(TABLE_BYTES))
        self._table[place] = entry_of(self._output.position)
        self._output.append([data])

    def finish(self) -> None:
        """Write what is left; nothing may be added afterwards."""
        self._end_table()
        self._output.end_at(max(self._output.position, self._overhead * SECTOR_BYTES + GRAIN_BYTES))

    def _end_table(self) -> None:
        if self._number < 0:
            return
        raw = little_endian(self._table)
        for directory in self._directories:
            sector = directory + self._first_table + self._number * _TABLE_SECTORS
            self._output.overwrite(sector * SECTOR_BYTES, raw)

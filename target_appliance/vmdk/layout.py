"""Structures of a stream-optimised sparse extent, little-endian, from VMware's Virtual Disk Format 5.0.

A file is: header sector, embedded descriptor (only where the extent is a whole disk), then records in rising grain
order (a 12-byte grain marker and its payload, padded to a sector), each group of 512 grains followed by its grain table
behind a metadata marker, at last the grain directory, a footer, and an end-of-stream marker.
"""

import struct
from dataclasses import dataclass
from typing import Final

from common.grain import GRAIN_BYTES

SECTOR_BYTES: Final = 512
GRAIN_SECTORS: Final = GRAIN_BYTES // SECTOR_BYTES
TABLE_ENTRIES: Final = 512
"""Grains per grain table; the format's only value that every reader takes."""
TABLE_BYTES: Final = TABLE_ENTRIES * 4
TABLE_SPAN_BYTES: Final = TABLE_ENTRIES * GRAIN_BYTES
DESCRIPTOR_SECTORS: Final = 20
"""Room for an embedded descriptor: qemu reads exactly so much."""
EXTENT_MOST_BYTES: Final = 64 << 30
"""Largest extent of ours: grain table entries are 32-bit sector numbers, and an extent is the unit of parallel work."""

ENTRY_HOLE: Final = 0
ENTRY_ZERO: Final = 1

VERSION_COMPRESSED: Final = 3
VERSION_SPARSE: Final = 1
FLAG_NEWLINES: Final = 1
FLAG_REDUNDANT: Final = 2
FLAG_ZERO_GRAINS: Final = 4
FLAG_COMPRESSED: Final = 1 << 16
FLAG_MARKERS: Final = 1 << 17
COMPRESSION_DEFLATE: Final = 1

MARKER_END: Final = 0
MARKER_TABLE: Final = 1
MARKER_DIRECTORY: Final = 2
MARKER_FOOTER: Final = 3

_HEADER: Final = struct.Struct("<4sIIQQQQIQQQB4sH433x")
_MAGIC: Final = b"KDMV"
_NEWLINES: Final = b"\n \r\n"
GRAIN_MARKER: Final = struct.Struct("<QI")
"""First sector of the grain on the extent, bytes of payload."""
METADATA_MARKER: Final = struct.Struct("<QII496x")
"""Sectors of metadata that follow, zero, type."""


@dataclass(frozen=True, slots=True)
class Header:
    """A sparse extent's header; sizes and offsets are sectors."""

    capacity: int
    descriptor_offset: int
    descriptor_size: int
    directory_offset: int
    overhead: int
    version: int = VERSION_COMPRESSED
    flags: int = FLAG_NEWLINES | FLAG_ZERO_GRAINS | FLAG_COMPRESSED | FLAG_MARKERS
    compression: int = COMPRESSION_DEFLATE
    redundant_offset: int = 0

    def pack(self) -> bytes:
        """The header's sector."""
        return _HEADER.pack(
            _MAGIC,
            self.version,
            self.flags,
            self.capacity,
            GRAIN_SECTORS,
            self.descriptor_offset,
            self.descriptor_size,
            TABLE_ENTRIES,
            self.redundant_offset,
            self.directory_offset,
            self.overhead,
            0,
            _NEWLINES,
            self.compression,
        )

    @classmethod
    def unpack(cls, sector: bytes) -> "Header":
        """The header in ``sector``.

        Raises:
            ValueError: it is not one that ``pack`` makes.
        """
        if len(sector) != SECTOR_BYTES:
            raise ValueError("the header is cut short")
        (
            _, version, flags, capacity, _, descriptor_offset, descriptor_size, _, redundant, directory, overhead,
            _, _, compression,
        ) = _HEADER.unpack(sector)  # fmt: skip
        header = cls(
            capacity, descriptor_offset, descriptor_size, directory, overhead, version, flags, compression, redundant
        )
        if header.pack() != sector:
            raise ValueError("the header is not one of a sealed extent")
        return header


def padded(size: int) -> int:
    """``size`` rounded up to whole sectors, in bytes."""
    return -(-size // SECTOR_BYTES) * SECTOR_BYTES


def grain_record_bytes(payload: int) -> int:
    """Bytes that a grain with so many bytes of payload takes in a file."""
    return padded(GRAIN_MARKER.size + payload)


def table_count(capacity_bytes: int) -> int:
    """Grain tables that cover ``capacity_bytes``, that is directory entries."""
    return -(-capacity_bytes // TABLE_SPAN_BYTES)


def empty_bytes(capacity_bytes: int, *, alone: bool) -> int:
    """Bytes of an extent without grains; ``alone``: it is the whole disk, and its descriptor is inside."""
    directory = padded(4 * table_count(capacity_bytes))
    markers = 3  # the directory's, the footer's, and the end
    return (2 + (DESCRIPTOR_SECTORS if alone else 1) + markers) * SECTOR_BYTES + directory


def marker(kind: int, sectors: int) -> bytes:
    """A metadata marker's sector."""
    return METADATA_MARKER.pack(sectors, 0, kind)


def extent_capacities(capacity_bytes: int) -> tuple[int, ...]:
    """Bytes of each extent of a disk, in order; all but the last are EXTENT_MOST_BYTES."""
    whole, rest = divmod(capacity_bytes, EXTENT_MOST_BYTES)
    return (EXTENT_MOST_BYTES,) * whole + ((rest,) if rest else ())

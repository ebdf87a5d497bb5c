"""Where the parts of a sealed VMDK lie, read by the test itself (docs/format.md, section on the extent)."""

import struct
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
TABLE_ENTRIES = 512


@dataclass(frozen=True, slots=True)
class Part:
    """A run of bytes of a file."""

    name: str
    offset: int
    length: int


def parts(path: Path) -> list[Part]:
    """Every kind of part at least once where the file has it; grains each by its pieces."""
    data = path.read_bytes()
    capacity, _, descriptor, descriptor_sectors = struct.unpack_from("<QQQQ", data, 12)
    (directory,) = struct.unpack_from("<Q", data, 56)
    tables = -(-capacity // (TABLE_ENTRIES * 128))
    found = [
        Part("header", 0, SECTOR),
        Part("descriptor", descriptor * SECTOR, descriptor_sectors * SECTOR),
        Part("directory marker", (directory - 1) * SECTOR, SECTOR),
        Part("directory", directory * SECTOR, 4 * tables),
        Part("footer marker", len(data) - 3 * SECTOR, SECTOR),
        Part("footer", len(data) - 2 * SECTOR, SECTOR),
        Part("end of stream", len(data) - SECTOR, SECTOR),
    ]
    assert data[found[5].offset : found[5].offset + 4] == b"KDMV"
    for table in struct.unpack_from(f"<{tables}I", data, directory * SECTOR):
        if not table:
            continue
        found.append(Part("table marker", (table - 1) * SECTOR, SECTOR))
        found.append(Part("table", table * SECTOR, TABLE_ENTRIES * 4))
        for sector in struct.unpack_from(f"<{TABLE_ENTRIES}I", data, table * SECTOR):
            if sector > 1:
                found += _grain(data, sector * SECTOR)
    return found


def _grain(data: bytes, at: int) -> list[Part]:
    _, size = struct.unpack_from("<QI", data, at)
    payload, end = at + 12, at + 12 + size
    pieces = [
        Part("grain marker", at, 12),
        Part("key point number", payload, 4),
        Part("nonce", payload + 4, 12),
        Part("ciphertext", payload + 16, size - 32),
        Part("tag", end - 16, 16),
    ]
    padding = -end % SECTOR
    return [*pieces, Part("padding", end, padding)] if padding else pieces

"""Sparse extents for fuzzers: ours and other makers', by the bytes of a file, of its tables, or of its grains' records.

Header and footer of our own must fit one another to the byte, so they are put around what is tried.
"""

import contextlib
import random
import struct
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from common.errors import InvalidInputError
from common.grain import GRAIN_BYTES
from target_appliance.seal.grain import PAYLOAD_MOST_BYTES
from target_appliance.seed.source_file import SourceFile
from target_appliance.seed.sparse import SparseExtent
from target_appliance.store.memory import MemoryReadFile
from target_appliance.vmdk.layout import (
    ENTRY_HOLE,
    ENTRY_ZERO,
    EXTENT_MOST_BYTES,
    FLAG_NEWLINES,
    GRAIN_MARKER,
    GRAIN_SECTORS,
    MARKER_END,
    MARKER_FOOTER,
    SECTOR_BYTES,
    TABLE_BYTES,
    TABLE_ENTRIES,
    VERSION_SPARSE,
    Header,
    marker,
    padded,
)
from target_appliance.vmdk.reader import ExtentReader, LayoutError

GOLDEN = Path(__file__).parents[1] / "golden" / "format"
GRAINS = TABLE_ENTRIES + 88
"""Of extents whose tables are tried: two tables, the second not full."""
FIRST = 2
"""The sector behind the header and the one that stays empty."""
RECORDS = 8
"""Of extents whose grains' records are tried."""
RECORD_SECTORS = 2
TABLE_SECTORS = TABLE_BYTES // SECTOR_BYTES
TAIL_BYTES = 3 * SECTOR_BYTES
MOST_LOOKED_AT = 4096


def whole(data: bytes) -> None:
    """A file of ours; its footer is made to fit its header, and the disk to be as large as it says."""
    sector = data[:SECTOR_BYTES].ljust(SECTOR_BYTES, b"\0")
    capacity = int.from_bytes(sector[12:20], "little") * SECTOR_BYTES
    _read(_closed(sector, data[SECTOR_BYTES:]), min(capacity, EXTENT_MOST_BYTES))


def wholes() -> Iterator[bytes]:
    """Extents of the format's golden store."""
    for path in sorted(GOLDEN.rglob("*.vmdk")):
        content = path.read_bytes()
        if content[:4] == b"KDMV":
            yield content


def foreign(content: bytes) -> None:
    """A file of any maker, read as an image that is to be imported."""
    with tempfile.NamedTemporaryFile(prefix="keysapart-fuzz-") as file:
        file.write(content)
        file.flush()
        source = SourceFile(Path(file.name))
        try:
            extent = SparseExtent(source)
            extent.descriptor(4096)
            for found in islice(extent.allocated(), 64):
                extent.read_into(found.offset, memoryview(bytearray(min(found.length, 1 << 16))))
        finally:
            source.close()


def foreigns() -> Iterator[bytes]:
    """Stream-optimised with its directory in the header and at the end; plain with a descriptor and small grains."""
    directory = _directory(FIRST + 1) + _table([FIRST + 1 + TABLE_SECTORS]) + _record(0)
    header = _header(TABLE_ENTRIES)
    yield _closed(header, bytes(SECTOR_BYTES) + directory)
    late = replace(Header.unpack(header), directory_offset=(1 << 64) - 1).pack()
    yield late + _closed(header, bytes(SECTOR_BYTES) + directory)[SECTOR_BYTES:]
    plain = Header(TABLE_ENTRIES, 1, 1, FIRST, FIRST, VERSION_SPARSE, FLAG_NEWLINES, 0).pack()
    small = plain[:20] + (1).to_bytes(8, "little") + plain[28:]
    text = b"# Disk DescriptorFile".ljust(SECTOR_BYTES, b"\0")
    yield small + text + _directory(FIRST + 1) + _table([FIRST + 1 + TABLE_SECTORS]) + bytes(range(256)) * 2


def tables(data: bytes) -> None:
    """``data`` as all that stands behind the header: the grain directory, then its tables and what they point at."""
    content = _closed(_header(GRAINS), bytes(SECTOR_BYTES) + data)
    with contextlib.suppress(LayoutError):
        _read(content, GRAINS * GRAIN_BYTES)
    with contextlib.suppress(InvalidInputError):
        foreign(content)


def good_tables() -> Iterator[bytes]:
    """Two tables with zeros, holes and records; the second table alone; none."""
    one, other = FIRST + 1, FIRST + 1 + TABLE_SECTORS
    records = other + TABLE_SECTORS
    both = _directory(one, other)
    both += _table([ENTRY_HOLE, ENTRY_ZERO, records]) + _table([records + RECORD_SECTORS, ENTRY_ZERO])
    yield both + _record(2) + _record(TABLE_ENTRIES)
    yield _directory(0, one) + _table([one + TABLE_SECTORS]) + _record(TABLE_ENTRIES)
    yield _directory(0, 0)


def markers(data: bytes) -> None:
    """``data`` as the records that a table in order points at."""
    first = FIRST + 1 + TABLE_SECTORS
    places = [(grain, first + RECORD_SECTORS * grain) for grain in range(RECORDS)]
    body = _directory(FIRST + 1) + _table([sector for _, sector in places]) + data
    content = _closed(_header(TABLE_ENTRIES), bytes(SECTOR_BYTES) + body)
    reader = ExtentReader(MemoryReadFile(bytearray(content)), TABLE_ENTRIES * GRAIN_BYTES, PAYLOAD_MOST_BYTES)
    assert list(reader.entries()) == places
    for wanted in (places, *([one] for one in places)):
        with contextlib.suppress(LayoutError):
            _look_at(reader, wanted)
    with contextlib.suppress(InvalidInputError):
        foreign(content)


def good_markers() -> Iterator[bytes]:
    """All grains' records; one that reaches over all others' places."""
    yield b"".join(_record(grain) for grain in range(RECORDS))
    yield GRAIN_MARKER.pack(0, RECORDS * RECORD_SECTORS * SECTOR_BYTES) + bytes(RECORDS * RECORD_SECTORS * SECTOR_BYTES)


def _read(content: bytes, capacity: int) -> None:
    reader = ExtentReader(MemoryReadFile(bytearray(content)), capacity, PAYLOAD_MOST_BYTES)
    reader.descriptor()
    held = [(grain, entry) for grain, entry in islice(reader.entries(), MOST_LOOKED_AT) if entry > ENTRY_ZERO]
    _look_at(reader, sorted(held, key=lambda one: one[1]))


def _look_at(reader: ExtentReader, wanted: list[tuple[int, int]]) -> None:
    for payload in reader.payloads(wanted):
        assert 0 < len(payload) <= PAYLOAD_MOST_BYTES


def _closed(header: bytes, body: bytes) -> bytes:
    """The file of this header and body; a body that ends as a file does gets its end anew."""
    body = body.ljust(padded(len(body)), b"\0")
    if body[-TAIL_BYTES : -TAIL_BYTES + SECTOR_BYTES] == marker(MARKER_FOOTER, 1):
        body = body[:-TAIL_BYTES]
    return header + body + marker(MARKER_FOOTER, 1) + header + marker(MARKER_END, 0)


def _header(grains: int) -> bytes:
    return Header(grains * GRAIN_SECTORS, 0, 0, FIRST, FIRST).pack()


def _directory(*tables: int) -> bytes:
    return struct.pack(f"<{len(tables)}I", *tables).ljust(SECTOR_BYTES, b"\0")


def _table(entries: list[int]) -> bytes:
    return struct.pack(f"<{len(entries)}I", *entries).ljust(TABLE_BYTES, b"\0")


def _record(grain: int) -> bytes:
    """Deflated, as other makers' are: some noise, then zeros."""
    payload = zlib.compress(random.Random(grain).randbytes(600).ljust(GRAIN_BYTES, b"\0"))
    record = GRAIN_MARKER.pack(grain * GRAIN_SECTORS, len(payload)) + payload
    assert SECTOR_BYTES < len(record) <= RECORD_SECTORS * SECTOR_BYTES
    return record.ljust(RECORD_SECTORS * SECTOR_BYTES, b"\0")

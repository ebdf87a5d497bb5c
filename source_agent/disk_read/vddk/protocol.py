"""What agent and worker say to each other: one datagram a message, its first byte says which kind.

The agent asks one thing at a time (``J``, JSON with ``do``), and gets one JSON object back; reads (``R``) it asks for
by slot of the shared memory, any number at once, and gets ``D`` for each, in whatever order they end.
"""

import json
import struct
from typing import Any, Final

SLOT_BYTES: Final = 1 << 20
"""The largest read: hosts run out of buffers beyond 2 MiB, and more gains nothing."""
SLOTS: Final = 6
"""Four under way, one being fetched, one for a read that nobody announced."""
SECTOR_BYTES: Final = 512

JSON: Final = b"J"
READ: Final = b"R"
DONE: Final = b"D"
RUNS: Final = b"A"
"""Allocated runs: pairs of offset and length in sectors, before the JSON reply that ends them."""
LOG: Final = b"L"

MOST_RUNS: Final = 4096
"""In one message, which the socket must take as a whole."""
_LOG_BYTES: Final = 2048
MESSAGE_BYTES: Final = 1 + MOST_RUNS * 16

_READ = struct.Struct("<cIQQ")
_DONE = struct.Struct("<cIQ")


def pack_json(value: dict[str, Any]) -> bytes:
    """A request or a reply."""
    return JSON + json.dumps(value).encode()


def unpack_json(message: bytes) -> dict[str, Any]:
    """What ``pack_json`` packed."""
    value: dict[str, Any] = json.loads(message[1:])
    return value


def pack_read(slot: int, sector: int, sectors: int) -> bytes:
    """Read so many sectors from ``sector`` on into a slot."""
    return _READ.pack(READ, slot, sector, sectors)


def unpack_read(message: bytes) -> tuple[int, int, int]:
    """(slot, first sector, sectors)."""
    _, slot, sector, sectors = _READ.unpack(message)
    return slot, sector, sectors


def pack_done(slot: int, result: int) -> bytes:
    """The read into a slot has ended."""
    return _DONE.pack(DONE, slot, result)


def unpack_done(message: bytes) -> tuple[int, int]:
    """(slot, the library's result)."""
    _, slot, result = _DONE.unpack(message)
    return slot, result


def pack_log(level: str, text: bytes) -> bytes:
    """A line of the library's log; long ones are cut."""
    return LOG + level[:1].encode() + text[:_LOG_BYTES]

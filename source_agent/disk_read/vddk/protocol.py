"""What agent and worker say to each other: one datagram a message, its first byte says which kind.

The agent asks one thing at a time (``J``, JSON with ``do``), and gets one JSON object back; reads (``R``) it asks for
by slot of the shared memory, several in a message, and is told of each (``D``) in whatever order they end.
"""

import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final

SLOT_BYTES: Final = 1 << 20
"""The largest read: hosts run out of buffers beyond 2 MiB, and more gains nothing."""
AT_ONCE: Final = 4
"""Reads asked for ahead of their use: more end in allocation failures of the host's own buffers."""
SLOTS: Final = AT_ONCE + 4
"""The others are lent; few, so that they stay in the processor's cache."""
SECTOR_BYTES: Final = 512

JSON: Final = b"J"
READ: Final = b"R"
DONE: Final = b"D"
RUNS: Final = b"A"
"""Allocated runs: pairs of offset and length in sectors, before the JSON reply that ends them."""
LOG: Final = b"L"

MOST_RUNS: Final = 1024
"""In one message, which the socket must take as a whole."""
_LOG_BYTES: Final = 2048
MESSAGE_BYTES: Final = 1 + MOST_RUNS * 16

_READ = struct.Struct("<IQQ")
_DONE = struct.Struct("<IQ")


def pack_json(value: dict[str, Any]) -> bytes:
    """A request or a reply."""
    return JSON + json.dumps(value).encode()


def unpack_json(message: bytes) -> dict[str, Any]:
    """What ``pack_json`` packed."""
    value: dict[str, Any] = json.loads(message[1:])
    return value


def pack_reads(reads: Iterable[tuple[int, int, int]]) -> bytes:
    """Reads to do: (slot, first sector, sectors)."""
    return READ + b"".join(_READ.pack(*read) for read in reads)


def unpack_reads(message: bytes) -> Iterator[tuple[int, int, int]]:
    """What ``pack_reads`` packed."""
    return _READ.iter_unpack(memoryview(message)[1:])


def pack_done(ended: Iterable[tuple[int, int]]) -> bytes:
    """Reads that have ended: (slot, the library's result)."""
    return DONE + b"".join(_DONE.pack(*one) for one in ended)


def unpack_done(message: bytes) -> Iterator[tuple[int, int]]:
    """What ``pack_done`` packed."""
    return _DONE.iter_unpack(memoryview(message)[1:])


def pack_log(level: str, text: bytes) -> bytes:
    """A line of the library's log; long ones are cut."""
    return LOG + level[:1].encode() + text[:_LOG_BYTES]

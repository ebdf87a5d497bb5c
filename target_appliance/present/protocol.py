"""NBD's numbers and the bytes that stand for them. Pure.

Written from doc/proto.md of github.com/NetworkBlockDevice/nbd: fixed newstyle, structured replies, ``base:allocation``.
"""

import enum
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

GREETING: Final = b"NBDMAGICIHAVEOPT" + struct.pack(">H", 0b11)
"""Fixed newstyle, and no zeros behind an export's size where the client agrees."""
OPTION_HEADER: Final = struct.Struct(">8sII")
OPTION_MAGIC: Final = b"IHAVEOPT"
REQUEST: Final = struct.Struct(">IHHQQI")
CLIENT_FIXED: Final = 1
CLIENT_NO_ZEROES: Final = 2
ALLOCATION: Final = "base:allocation"
ALLOCATION_ID: Final = 1
HOLE_OF_ZEROS: Final = 3
READ_MOST_BYTES: Final = 32 << 20
PREFERRED_BYTES: Final = 64 << 10
NAME_MOST_BYTES: Final = 4096

_REPLY: Final = struct.Struct(">QIII")
_REPLY_MAGIC: Final = 0x3E889045565A9
_REQUEST_MAGIC: Final = 0x25609513
_SIMPLE: Final = struct.Struct(">IIQ")
_SIMPLE_MAGIC: Final = 0x67446698
_CHUNK: Final = struct.Struct(">IHHQI")
_CHUNK_MAGIC: Final = 0x668E33EF
_DONE: Final = 1
# Has flags, read-only, understands "don't fragment", and may be dialled by one client many times.
_EXPORT_FLAGS: Final = 1 | 1 << 1 | 1 << 7 | 1 << 8


class Option(enum.IntEnum):
    """What a client may ask for before it reads."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10


class Answer(enum.IntEnum):
    """How an option is answered."""

    ACK = 1
    SERVER = 2
    INFO = 3
    META_CONTEXT = 4
    UNSUPPORTED = 1 << 31 | 1
    POLICY = 1 << 31 | 2
    INVALID = 1 << 31 | 3
    TLS_REQUIRED = 1 << 31 | 5
    UNKNOWN = 1 << 31 | 6


class Command(enum.IntEnum):
    """What a client may ask of an export; those that would write are refused."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    TRIM = 4
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


class Flag(enum.IntEnum):
    """Bits of a command."""

    DONT_FRAGMENT = 4
    REQ_ONE = 8


class Failure(enum.IntEnum):
    """Error numbers of the protocol."""

    EPERM = 1
    EIO = 5
    EINVAL = 22
    EOVERFLOW = 75
    ESHUTDOWN = 108


class MalformedError(Exception):
    """Bytes that are no message; the text says why."""


@dataclass(frozen=True, slots=True)
class Request:
    """One command."""

    flags: int
    command: int
    cookie: int
    offset: int
    length: int


def parse_request(header: bytes) -> Request:
    """The command in ``REQUEST.size`` bytes. Raises MalformedError."""
    magic, *fields = REQUEST.unpack(header)
    if magic != _REQUEST_MAGIC:
        raise MalformedError("a request does not begin with the protocol's number")
    return Request(*fields)


def option_reply(option: int, answer: Answer, data: bytes = b"") -> bytes:
    """One answer to an option."""
    return _REPLY.pack(_REPLY_MAGIC, option, answer, len(data)) + data


def export_info(capacity_bytes: int) -> bytes:
    """Size and flags of an export, as GO and EXPORT_NAME tell them."""
    return struct.pack(">QH", capacity_bytes, _EXPORT_FLAGS)


def infos(capacity_bytes: int, name: str) -> tuple[bytes, ...]:
    """What GO and INFO tell of an export: size, name and block sizes."""
    sizes = struct.pack(">HIII", 3, 1, PREFERRED_BYTES, READ_MOST_BYTES)
    return struct.pack(">H", 0) + export_info(capacity_bytes), struct.pack(">H", 1) + name.encode(), sizes


def listed(name: str) -> bytes:
    """An export as LIST tells it."""
    return struct.pack(">I", len(name.encode())) + name.encode()


def context(number: int) -> bytes:
    """``base:allocation`` under an id, as META_CONTEXT tells it."""
    return struct.pack(">I", number) + ALLOCATION.encode()


def parse_wanted(data: bytes) -> str:
    """The export that INFO or GO names; the kinds of information that it asks for are all told anyway.

    Raises:
        MalformedError: the lengths do not fit.
    """
    name, rest = _string(data)
    if len(rest) < 2 or len(rest) != 2 + 2 * struct.unpack_from(">H", rest)[0]:
        raise MalformedError("the option's lengths do not fit")
    return name


def parse_contexts(data: bytes) -> tuple[str, tuple[str, ...]]:
    """The export and the queries of LIST_META_CONTEXT or SET_META_CONTEXT. Raises MalformedError."""
    name, rest = _string(data)
    if len(rest) < 4:
        raise MalformedError("the option's lengths do not fit")
    (count,), rest = struct.unpack_from(">I", rest), rest[4:]
    queries = []
    while rest:
        query, rest = _string(rest)
        queries.append(query)
    if len(queries) != count:
        raise MalformedError("the option's lengths do not fit")
    return name, tuple(queries)


def decode_name(data: bytes) -> str:
    """A name or query. Raises MalformedError."""
    if len(data) > NAME_MOST_BYTES:
        raise MalformedError("a name is too long")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise MalformedError("a name is not UTF-8") from None


def _string(data: bytes) -> tuple[str, bytes]:
    if len(data) < 4:
        raise MalformedError("the option's lengths do not fit")
    (length,) = struct.unpack_from(">I", data)
    if length > len(data) - 4:
        raise MalformedError("the option's lengths do not fit")
    return decode_name(data[4 : 4 + length]), data[4 + length :]


def simple_reply(cookie: int, failure: int = 0) -> bytes:
    """Begin of a simple reply; data follow where it is none of a failure."""
    return _SIMPLE.pack(_SIMPLE_MAGIC, failure, cookie)


def data_chunk(cookie: int, offset: int, length: int) -> bytes:
    """Begin of a chunk with ``length`` bytes of the export, which follow."""
    return _CHUNK.pack(_CHUNK_MAGIC, 0, 1, cookie, 8 + length) + struct.pack(">Q", offset)


def hole_chunk(cookie: int, offset: int, length: int) -> bytes:
    """A chunk that stands for zeros."""
    return _CHUNK.pack(_CHUNK_MAGIC, 0, 2, cookie, 12) + struct.pack(">QI", offset, length)


def done_chunk(cookie: int) -> bytes:
    """The end of a structured reply that succeeded."""
    return _CHUNK.pack(_CHUNK_MAGIC, _DONE, 0, cookie, 0)


def status_chunk(cookie: int, extents: Sequence[tuple[int, int]]) -> bytes:
    """The whole reply to BLOCK_STATUS: lengths with their state, in order."""
    body = struct.pack(">I", ALLOCATION_ID) + b"".join(struct.pack(">II", *one) for one in extents)
    return _CHUNK.pack(_CHUNK_MAGIC, _DONE, 5, cookie, len(body)) + body


def error_chunk(cookie: int, failure: Failure, offset: int | None = None) -> bytes:
    """The end of a structured reply that failed, at ``offset`` where that is known."""
    body = struct.pack(">IH", failure, 0) + (b"" if offset is None else struct.pack(">Q", offset))
    return _CHUNK.pack(_CHUNK_MAGIC, _DONE, 1 << 15 | (1 if offset is None else 2), cookie, len(body)) + body

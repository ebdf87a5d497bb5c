"""What comes before the first read: through TLS where that is demanded, until one export is chosen."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from target_appliance.present import protocol
from target_appliance.present.disk import LiveDisk
from target_appliance.present.line import Line
from target_appliance.present.protocol import ALLOCATION, Answer, MalformedError, Option

_DATA_MOST_BYTES: Final = 16 << 10
_OPTIONS_MOST: Final = 256
_WANTED: Final = {Option.LIST_META_CONTEXT: {"base:", ALLOCATION}, Option.SET_META_CONTEXT: {ALLOCATION}}


class Caller(Protocol):
    """Who is at the other end."""

    @property
    def name(self) -> str:
        """For the log, and for what one caller may have."""
        ...

    def begin(self, disk: LiveDisk) -> None:
        """He is about to read ``disk``. Raises KeysapartError: he may not, or it cannot be told to the audit log."""
        ...

    def require(self) -> None:
        """Return while he is let in. Raises KeysapartError."""
        ...


class Door(Protocol):
    """Who is let in."""

    def enter(self, line: Line, peer: str, /) -> Caller | None:
        """Find out who has come on ``line`` from the address ``peer``; None when he leaves.

        Raises:
            KeysapartError: he is not let in.
            MalformedError, GoneError, LateError, ssl.SSLError: see ``through_tls``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a handshake came to."""

    disk: LiveDisk
    structured: bool
    status: bool
    """Whether BLOCK_STATUS may be asked."""


def greet(line: Line) -> int:
    """Say hello; the client's flags.

    Raises:
        MalformedError: it speaks another handshake.
        GoneError, LateError: see Line.
    """
    line.give(protocol.GREETING)
    flags = int.from_bytes(line.take(4))
    if flags & ~(protocol.CLIENT_FIXED | protocol.CLIENT_NO_ZEROES) or not flags & protocol.CLIENT_FIXED:
        raise MalformedError("it does not speak the fixed newstyle handshake")
    return flags


def through_tls(line: Line, context: Callable[[], ssl.SSLContext]) -> bytes | None:
    """Answer nothing but the wish for TLS; the client's certificate (DER), or None when it leaves.

    Raises:
        MalformedError, GoneError, LateError: as in ``choose``.
        KeysapartError: ``context`` does.
        ssl.SSLError: the handshake failed.
    """
    for _ in range(_OPTIONS_MOST):
        number, data = _option(line)
        if number == Option.ABORT:
            line.give(protocol.option_reply(number, Answer.ACK))
            return None
        if number == Option.STARTTLS and not data:
            shown = context()
            line.give(protocol.option_reply(number, Answer.ACK))
            return line.secure(shown)
        if number == Option.EXPORT_NAME:
            raise MalformedError("it names an export before TLS has begun")
        line.give(protocol.option_reply(number, Answer.TLS_REQUIRED))
    raise MalformedError("it sends options without end")


def choose(line: Line, flags: int, disks: Mapping[str, LiveDisk]) -> Chosen | None:
    """Answer options until an export is chosen, of ``disks`` by their names; None when the client leaves.

    Raises:
        MalformedError: the client breaks the protocol, or a bound.
        GoneError, LateError: see Line.
    """
    options = _Options(line, disks, no_zeroes=bool(flags & protocol.CLIENT_NO_ZEROES))
    for _ in range(_OPTIONS_MOST):
        number, data = _option(line)
        if number == Option.ABORT:
            line.give(protocol.option_reply(number, Answer.ACK))
            return None
        found = options.answer(number, data)
        if found is not None:
            return found
    raise MalformedError("it sends options without end")


def _option(line: Line) -> tuple[int, bytes]:
    magic, number, length = protocol.OPTION_HEADER.unpack(line.take(protocol.OPTION_HEADER.size))
    if magic != protocol.OPTION_MAGIC:
        raise MalformedError("an option does not begin with the protocol's word")
    if length > _DATA_MOST_BYTES:
        raise MalformedError("an option is too long")
    return number, line.take(length)


class _Options:
    """The options of one client."""

    def __init__(self, line: Line, disks: Mapping[str, LiveDisk], *, no_zeroes: bool) -> None:
        self._line = line
        self._disks = disks
        self._no_zeroes = no_zeroes
        self._structured = False
        self._status_of: LiveDisk | None = None

    def answer(self, number: int, data: bytes) -> Chosen | None:
        """Answer one; what was chosen, if it chooses."""
        if number == Option.EXPORT_NAME:
            return self._export_name(data)
        try:
            match number:
                case Option.LIST if not data:
                    for name in self._disks:
                        self._reply(number, Answer.SERVER, protocol.listed(name))
                    self._reply(number, Answer.ACK)
                case Option.STRUCTURED_REPLY if not data:
                    self._structured = True
                    self._reply(number, Answer.ACK)
                case Option.INFO | Option.GO:
                    return self._info(number, data)
                case Option.LIST_META_CONTEXT | Option.SET_META_CONTEXT:
                    self._contexts(Option(number), data)
                case Option.STARTTLS:
                    self._reply(number, Answer.POLICY)  # it has begun, or nobody else reaches this socket
                case Option.LIST | Option.STRUCTURED_REPLY:
                    self._reply(number, Answer.INVALID)
                case _:
                    self._reply(number, Answer.UNSUPPORTED)
        except MalformedError:
            self._reply(number, Answer.INVALID)
        return None

    def _info(self, number: int, data: bytes) -> Chosen | None:
        disk = self._disk(protocol.parse_wanted(data))
        if disk is None:
            self._reply(number, Answer.UNKNOWN)
            return None
        for info in protocol.infos(disk.capacity_bytes, disk.name):
            self._reply(number, Answer.INFO, info)
        self._reply(number, Answer.ACK)
        return self._chosen(disk) if number == Option.GO else None

    def _export_name(self, data: bytes) -> Chosen:
        disk = self._disk(protocol.decode_name(data))
        if disk is None:
            raise MalformedError("it names an export that is not there")
        self._line.give(protocol.export_info(disk.capacity_bytes), b"" if self._no_zeroes else bytes(124))
        return self._chosen(disk)

    def _contexts(self, number: Option, data: bytes) -> None:
        sets = number is Option.SET_META_CONTEXT
        if sets:
            self._status_of = None
        name, queries = protocol.parse_contexts(data)
        disk = self._disk(name)
        if not self._structured:
            self._reply(number, Answer.INVALID)
        elif disk is None:
            self._reply(number, Answer.UNKNOWN)
        else:
            if _WANTED[number].intersection(queries) or not (queries or sets):
                self._reply(number, Answer.META_CONTEXT, protocol.context(protocol.ALLOCATION_ID if sets else 0))
                self._status_of = disk if sets else self._status_of
            self._reply(number, Answer.ACK)

    def _disk(self, name: str) -> LiveDisk | None:
        if not name and len(self._disks) == 1:
            return next(iter(self._disks.values()))
        return self._disks.get(name)

    def _chosen(self, disk: LiveDisk) -> Chosen:
        return Chosen(disk, self._structured, self._status_of is disk)

    def _reply(self, number: int, answer: Answer, data: bytes = b"") -> None:
        self._line.give(protocol.option_reply(number, answer, data))

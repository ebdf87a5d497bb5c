"""What a client asks of the export that it chose, one request after the other, in order."""

from collections.abc import Callable
from typing import Final

from target_appliance.present import protocol
from target_appliance.present.disk import LiveDisk, UnreadableError
from target_appliance.present.handshake import Chosen
from target_appliance.present.line import Line
from target_appliance.present.protocol import Command, Failure, Flag, MalformedError, Request

_WHOLE_MOST_BYTES: Final = 1 << 20
"""What is held in memory at once for a reply that may not be cut into pieces."""


class Transmission:
    """One client's, on one thread.

    Args:
        line: past its handshake.
        chosen: what that came to.
        require: called before each answer; raises KeysapartError when the client is not let in any more.
        stopping: whether the view is about to end.
    """

    def __init__(self, line: Line, chosen: Chosen, require: Callable[[], None], stopping: Callable[[], bool]) -> None:
        self._line = line
        self._disk: LiveDisk = chosen.disk
        self._structured = chosen.structured
        self._status = chosen.status
        self._require = require
        self._stopping = stopping
        self._end = -1
        """Where the last read ended."""
        self.bytes_read = 0

    def run(self) -> None:
        """Answer until the client has enough.

        Raises:
            MalformedError: the client breaks the protocol.
            GoneError, LateError: see Line.
            KeysapartError: it is not let in any more.
        """
        while True:
            request = protocol.parse_request(self._line.take_idle(protocol.REQUEST.size))
            if request.command == Command.DISCONNECT:
                return
            if request.command == Command.WRITE:
                if request.length > protocol.READ_MOST_BYTES:
                    raise MalformedError("it would write more than anybody may")
                self._line.skip(request.length)
            self._require()
            failure = self._refusal(request)
            if failure is not None:
                self._fail(request, failure)
            elif request.command == Command.READ:
                self._read(request)
            else:
                self._extents(request)

    def _refusal(self, request: Request) -> Failure | None:
        allowed = 0
        if self._structured:
            allowed = Flag.DONT_FRAGMENT if request.command == Command.READ else Flag.REQ_ONE
        if self._stopping():
            return Failure.ESHUTDOWN
        if request.command in {Command.WRITE, Command.TRIM, Command.WRITE_ZEROES}:
            return Failure.EPERM
        known = request.command == Command.READ or (request.command == Command.BLOCK_STATUS and self._status)
        end = request.offset + request.length
        if not known or request.flags & ~allowed or not request.length or end > self._disk.capacity_bytes:
            return Failure.EINVAL
        if request.command == Command.READ:
            whole = request.flags & Flag.DONT_FRAGMENT
            if request.length > (_WHOLE_MOST_BYTES if whole else protocol.READ_MOST_BYTES):
                return Failure.EOVERFLOW
        return None

    def _read(self, request: Request) -> None:
        goes_on, self._end = request.offset == self._end, request.offset + request.length
        if not self._structured:
            self._read_simply(request, goes_on=goes_on)
        elif request.flags & Flag.DONT_FRAGMENT:
            self._read_whole(request, goes_on=goes_on)
        else:
            self._read_in_chunks(request, goes_on=goes_on)
        self.bytes_read += request.length

    def _read_in_chunks(self, request: Request, *, goes_on: bool) -> None:
        try:
            for run in self._disk.read(request.offset, request.length, goes_on=goes_on):
                if run.data is None:
                    self._line.give(protocol.hole_chunk(request.cookie, run.offset, run.length))
                else:
                    self._line.give(protocol.data_chunk(request.cookie, run.offset, run.length), *run.data)
        except UnreadableError as error:
            self._line.give(protocol.error_chunk(request.cookie, Failure.EIO, error.offset))
        else:
            self._line.give(protocol.done_chunk(request.cookie))

    def _read_whole(self, request: Request, *, goes_on: bool) -> None:
        try:
            parts = self._parts(request, goes_on=goes_on)
        except UnreadableError as error:
            self._line.give(protocol.error_chunk(request.cookie, Failure.EIO, error.offset))
        else:
            head = protocol.data_chunk(request.cookie, request.offset, request.length)
            self._line.give(head, *parts, protocol.done_chunk(request.cookie))

    def _read_simply(self, request: Request, *, goes_on: bool) -> None:
        """A simple reply says at its begin that all is well: what is too long to be had first is cut if it is not."""
        if request.length <= _WHOLE_MOST_BYTES:
            try:
                parts = self._parts(request, goes_on=goes_on)
            except UnreadableError:
                self._fail(request, Failure.EIO)
            else:
                self._line.give(protocol.simple_reply(request.cookie), *parts)
            return
        self._line.give(protocol.simple_reply(request.cookie))
        try:
            for run in self._disk.read(request.offset, request.length, goes_on=goes_on):
                self._line.give(*(run.data or (bytes(run.length),)))
        except UnreadableError:
            raise MalformedError("a simple reply cannot tell that a part of it is unreadable") from None

    def _parts(self, request: Request, *, goes_on: bool) -> list[bytes | memoryview]:
        runs = self._disk.read(request.offset, request.length, goes_on=goes_on)
        return [part for run in runs for part in run.data or (bytes(run.length),)]

    def _extents(self, request: Request) -> None:
        try:
            found = self._disk.extents(request.offset, request.length)
        except UnreadableError as error:
            self._line.give(protocol.error_chunk(request.cookie, Failure.EIO, error.offset))
            return
        if request.flags & Flag.REQ_ONE:
            del found[1:]
        told = [(length, protocol.HOLE_OF_ZEROS if zeros else 0) for length, zeros in found]
        self._line.give(protocol.status_chunk(request.cookie, told))

    def _fail(self, request: Request, failure: Failure) -> None:
        if self._structured:
            self._line.give(protocol.error_chunk(request.cookie, failure))
        else:
            self._line.give(protocol.simple_reply(request.cookie, failure))

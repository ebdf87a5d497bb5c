"""One client's connection: whole messages, each with a deadline, in the clear or through TLS."""

import contextlib
import socket
import ssl
from typing import Final

from common.clock import Clock

_PIECE: Final = 64 << 10


class GoneError(Exception):
    """The other side is gone, or was made to go."""


class LateError(Exception):
    """The other side did not send, or take, in time what it owes."""


class Line:
    """Used by one thread; ``end_input`` and ``hang_up`` may be called from any.

    Args:
        sock: connected; the line owns it.
        clock: for deadlines.
        take_seconds: how long the other side may take for a message of its own that has begun, or that is due.
        give_seconds: how long it may take to accept one of ours.
    """

    def __init__(self, sock: socket.socket, clock: Clock, take_seconds: float, give_seconds: float) -> None:
        self._sock = sock
        self._clock = clock
        self._take_seconds = take_seconds
        self._give_seconds = give_seconds
        self.due: float | None = None
        """By when all that is taken must have come, on the clock; beside each message's own deadline."""

    def take(self, length: int) -> bytes:
        """Exactly ``length`` bytes. Raises GoneError, LateError."""
        return self._take(length, bytearray())

    def take_idle(self, length: int) -> bytes:
        """The same, but the first byte may be long in coming."""
        self._sock.settimeout(None)
        return self._take(length, bytearray(self._receive(length)))

    def skip(self, length: int) -> None:
        """Take bytes and forget them. Raises GoneError, LateError."""
        while length:
            length -= len(self.take(min(length, _PIECE)))

    def give(self, *parts: bytes | memoryview) -> None:
        """Send all of it. Raises GoneError, LateError."""
        self._sock.settimeout(self._give_seconds)
        try:
            self._sock.sendall(b"".join(parts))
        except TimeoutError:
            raise LateError("it does not take what it asked for") from None
        except (OSError, ValueError):
            raise GoneError from None

    def secure(self, context: ssl.SSLContext) -> bytes:
        """Go on through TLS; returns the client's certificate, DER. Raises GoneError, LateError, ssl.SSLError."""
        try:
            # Nothing was read ahead, so what a meddler sent along in the clear ends the handshake.
            wrapped = context.wrap_socket(self._sock, server_side=True, do_handshake_on_connect=False)
            self._sock = wrapped
            wrapped.settimeout(self._left(self._clock.monotonic() + self._take_seconds))
            wrapped.do_handshake()
        except TimeoutError:
            raise LateError("it does not finish its TLS handshake") from None
        except ssl.SSLError:
            raise
        except (OSError, ValueError):
            raise GoneError from None
        return wrapped.getpeercert(binary_form=True) or b""

    def end_input(self) -> None:
        """What has come is still taken, nothing else comes."""
        self._shut(socket.SHUT_RD)

    def hang_up(self) -> None:
        """Whoever takes or gives finds the other side gone."""
        self._shut(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the socket; by the thread that uses it."""
        self._sock.close()

    def _shut(self, how: int) -> None:
        with contextlib.suppress(OSError):
            # Not the TLS socket's own shutdown: after that one it would send in the clear.
            socket.socket.shutdown(self._sock, how)

    def _take(self, length: int, found: bytearray) -> bytes:
        until = self._clock.monotonic() + self._take_seconds
        while len(found) < length:
            self._sock.settimeout(self._left(until))
            found += self._receive(length - len(found))
        return bytes(found)

    def _receive(self, most: int) -> bytes:
        try:
            data = self._sock.recv(most)
        except TimeoutError:
            raise LateError("it does not go on") from None
        except (OSError, ValueError):
            raise GoneError from None
        if not data:
            raise GoneError
        return data

    def _left(self, until: float) -> float:
        left = (until if self.due is None else min(until, self.due)) - self._clock.monotonic()
        if left <= 0:
            raise LateError("it does not go on")
        return left

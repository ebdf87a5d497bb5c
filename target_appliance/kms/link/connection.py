"""One verified TLS connection to a key server: a request out, an answer in, before a deadline."""

import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from common.address import HostPort, split
from common.clock import Clock
from common.errors import ConfigError

T = TypeVar("T")
Receive = Callable[[int], bytes]
"""Takes how many bytes at most; returns at least one. Raises BrokenError, OSError."""


class BrokenError(Exception):
    """The connection is of no use any more; the text says why, for people."""


class GarbledError(Exception):
    """The answer is not what was asked for; the text never quotes it."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Files that say whom we trust and who we are."""

    ca_file: Path
    certificate_file: Path | None = None
    key_file: Path | None = None
    """Both, or neither: then the server knows us by something else than TLS."""

    def context(self) -> ssl.SSLContext:
        """A context that verifies chain and name and speaks TLS 1.2 or newer; read anew, so that files may change.

        Raises:
            ConfigError: a file cannot be read or is not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(self.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise _unusable(self.ca_file, error) from None
        if self.certificate_file is None:
            return context
        try:
            context.load_cert_chain(self.certificate_file, self.key_file, password=_refuse_to_prompt)
        except (OSError, ssl.SSLError, ValueError) as error:
            raise _unusable(self.certificate_file, error) from None
        return context


class Connection:
    """A connection to ``endpoint``. Used by one thread at a time; broken after any failure."""

    def __init__(self, endpoint: HostPort, secure: ssl.SSLSocket, clock: Clock) -> None:
        self.endpoint = endpoint
        self._secure = secure
        self._clock = clock

    @classmethod
    def open(
        cls, endpoint: HostPort, server_name: str | None, identity: Identity, clock: Clock, deadline: float
    ) -> "Connection":
        """Connect and shake hands before ``deadline`` (of the monotonic clock).

        Raises:
            BrokenError: no connection, or the server is not the one that it should be.
            ConfigError: our files cannot be used.
        """
        host, port = split(endpoint)
        context = identity.context()
        try:
            plain = _dial(host, port, clock, deadline)
            try:
                plain.settimeout(_left(clock, deadline))
                secure = context.wrap_socket(plain, server_hostname=server_name or host)
            except BaseException:
                plain.close()
                raise
        except ssl.SSLCertVerificationError as error:
            raise BrokenError(f"its certificate is refused: {error.verify_message}") from None
        except (OSError, ValueError) as error:
            raise BrokenError(_describe(error)) from None
        return cls(endpoint, secure, clock)

    def exchange(self, request: bytes, read: Callable[[Receive], T], deadline: float) -> T:
        """Send ``request`` and return what ``read`` makes of the answer, which it must take whole.

        Raises:
            BrokenError: the connection was cut, or the answer is not there at ``deadline``; or ``read`` says so.
        """
        received = 0

        def receive(most: int) -> bytes:
            nonlocal received
            self._secure.settimeout(_left(self._clock, deadline))
            piece = self._secure.recv(most)
            if not piece:
                raise BrokenError("it cut the connection" + (" in the middle of an answer" if received else ""))
            received += len(piece)
            return piece

        try:
            self._secure.settimeout(_left(self._clock, deadline))
            self._secure.sendall(request)
            return read(receive)
        except OSError as error:
            raise BrokenError(_describe(error)) from None

    def close(self) -> None:
        """Close without ceremony; never raises."""
        with contextlib.suppress(OSError):
            self._secure.close()


def exactly(receive: Receive, wanted: int) -> bytes:
    """So many bytes. Raises as ``receive`` does."""
    received = bytearray()
    while len(received) < wanted:
        received += receive(wanted - len(received))
    return bytes(received)


def _dial(host: str, port: int, clock: Clock, deadline: float) -> socket.socket:
    """The first address of ``host`` that takes a connection; IPv6 and IPv4."""
    last: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        plain = socket.socket(family, kind, protocol)
        try:
            plain.settimeout(_left(clock, deadline))
            plain.connect(address)
        except OSError as error:
            plain.close()
            last = error
        else:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return plain
    raise last or OSError(f"{host} has no address")


def _left(clock: Clock, deadline: float) -> float:
    left = deadline - clock.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _describe(error: OSError | ValueError) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return "it cut the connection"
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).lower().replace("_", " ")
        ours = "alert" in reason and ("cert" in reason or "unknown ca" in reason)
        hint = ", so it refuses this appliance's certificate" if ours else ""
        return f"TLS failed: {reason}{hint}"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _refuse_to_prompt() -> str:
    # OpenSSL would ask on the terminal otherwise, and a service has none.
    raise ValueError("the key is protected by a passphrase")


def _unusable(path: Path, error: Exception) -> ConfigError:
    reason = (getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)).lower()
    return ConfigError(
        f"the KMS file {path} or its key cannot be used ({reason.replace('_', ' ')})",
        subject=f"file {path}",
        next_step="put the PEM files there that the KMS administrator issued, the key without a passphrase",
    )

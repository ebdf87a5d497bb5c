"""Connections on which next to nothing happens, kept up against every cut: what a slow-loris holds.

HTTP/2 is spoken by hand, because no gRPC client sends a byte a second.
"""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.end_to_end.pair import Pair
from tests.hostile.http2 import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, frame, headers

MESSAGE = b"\x00" + struct.pack(">I", 1 << 20)
"""gRPC's head of a message that will be a MiB long, and never comes."""
CALLS_PER_CONNECTION = 100
WRITE, DESCRIBE = b"/keysapart.v1.Replication/WriteDisk", b"/keysapart.v1.Replication/DescribeReplica"


@dataclass
class Held:
    """One connection with some calls on it; whatever the other side ends is made anew at the next beat."""

    connect: Callable[[], socket.socket]
    calls: int = 0
    path: bytes = WRITE
    message: bytes = MESSAGE + bytes(1 << 10)
    at_once: int = 0
    """Bytes that each call begins with."""
    later: int = 1
    """Bytes at each beat."""
    link: socket.socket | None = None
    made: int = 0
    """Connections and calls so far."""
    _next: int = 1
    _sent: dict[int, int] = field(default_factory=dict)
    """Bytes by call that is open."""
    _heard: bytes = b""

    def beat(self) -> None:
        """Make what is not there, and send a byte on each call."""
        try:
            if self.link is None:
                self._open()
            else:
                self._listen()
            self._trickle()
        except (BlockingIOError, ssl.SSLWantWriteError):
            return
        except OSError:
            self.close()

    def close(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None

    def _open(self) -> None:
        self.link, self._next, self._sent, self._heard = self.connect(), 1, {}, b""
        self.made += 1
        if self.calls:
            self.link.sendall(PREFACE + frame(SETTINGS, 0, 0, b""))
        self.link.setblocking(False)

    def _listen(self) -> None:
        """Take note of calls that the other side has ended. Raises OSError: it has hung up."""
        assert self.link is not None
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            while data := self.link.recv(65536):
                self._heard += data
            raise ConnectionResetError
        while len(self._heard) >= 9 + (size := int.from_bytes(self._heard[:3], "big")):
            kind, flags = self._heard[3:5]
            if kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
                self._sent.pop(int.from_bytes(self._heard[5:9], "big"), None)
            self._heard = self._heard[9 + size :]

    def _trickle(self) -> None:
        assert self.link is not None
        for call, sent in self._sent.items():
            if piece := self.message[sent : sent + self.later]:
                self.link.send(frame(DATA, 0, call, piece))
                self._sent[call] += len(piece)
        while len(self._sent) < self.calls:
            self.link.send(frame(HEADERS, END_HEADERS, self._next, headers(self.path)))
            if self.at_once:
                self.link.send(frame(DATA, 0, self._next, self.message[: self.at_once]))
            self._sent[self._next] = self.at_once
            self._next += 2
            self.made += 1


@dataclass
class Idle:
    """All that is held."""

    held: list[Held]
    _over: threading.Event = field(default_factory=threading.Event)

    def beat(self) -> None:
        """Once, over all."""
        for one in self.held:
            if self._over.is_set():
                return
            one.beat()

    @property
    def made(self) -> int:
        """Connections and calls so far."""
        return sum(one.made for one in self.held)

    def run(self) -> None:
        """A beat each second, until it is over."""
        while not self._over.wait(1):
            self.beat()

    def end(self) -> None:
        self._over.set()


@contextlib.contextmanager
def idle(pair: Pair, agent: Path, each: int) -> Iterator[Idle]:
    """Hold so many TCP connections, TLS connections, write streams and calls with the certificate in ``agent``."""
    address = ("127.0.0.1", pair.lab.data_port)
    context = ssl.create_default_context(cafile=str(agent / "ca.crt"))
    context.load_cert_chain(agent / "agent.crt", agent / "agent.key")
    context.set_alpn_protocols(["h2"])

    def tcp() -> socket.socket:
        return socket.create_connection(address, timeout=20)

    def tls() -> socket.socket:
        return context.wrap_socket(tcp(), server_hostname="127.0.0.1")

    held = [Held(tcp) for _ in range(each)] + [Held(tls) for _ in range(each)]
    for path in (WRITE, DESCRIBE):
        held += [Held(tls, CALLS_PER_CONNECTION, path) for _ in range(each // CALLS_PER_CONNECTION)]
    with kept_up(held) as made:
        yield made


@contextlib.contextmanager
def kept_up(held: list[Held]) -> Iterator[Idle]:
    """Hold them while the block runs; all were made once when it begins."""
    made = Idle(held)
    thread = threading.Thread(target=made.run)
    made.beat()
    thread.start()
    try:
        yield made
    finally:
        made.end()
        thread.join()
        for one in held:
            one.close()

"""An agent that is let in and then breaks HTTP/2 and gRPC below every message: memory is bounded, and others go on."""

import contextlib
import socket
import ssl
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.hostile import client, ledger
from tests.end_to_end.idle import DESCRIBE, WRITE
from tests.end_to_end.ledger import Ledger
from tests.hostile.http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    headers,
    literal,
)

__all__ = ["client", "ledger"]

pytestmark = pytest.mark.lab

OPEN = PREFACE + frame(SETTINGS, 0, 0, b"")
MIB = 1 << 20
MOST_GROWTH_BYTES = 48 * MIB
"""Of the peak, over all of them: less than one squeezed message would take."""
TIMES = 10_000


def call(path: bytes, stream: int = 1, more: bytes = b"") -> bytes:
    return frame(HEADERS, END_HEADERS, stream, headers(path) + more)


def head(length: int, compressed: int = 0) -> bytes:
    return bytes((compressed,)) + struct.pack(">I", length)


def data(body: bytes, stream: int = 1) -> bytes:
    return b"".join(frame(DATA, 0, stream, body[at : at + (1 << 14)]) for at in range(0, len(body), 1 << 14))


def bomb(path: bytes) -> Iterator[bytes]:
    """A message of 60 MiB of zeros that fits into the window before any of it is read."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    body = b"".join(packer.compress(bytes(MIB)) for _ in range(60)) + packer.flush()
    assert len(body) < 65_000
    yield OPEN + call(path, more=literal(b"grpc-encoding", b"gzip")) + data(head(len(body), 1) + body)


def promised(path: bytes, length: int) -> Iterator[bytes]:
    """A message that says it is so long, and 64 MiB of it, windows or not."""
    yield OPEN + call(path) + data(head(length))
    for _ in range(64):
        yield data(bytes(MIB))


def each(*pieces: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(pieces)


def again(first: bytes, piece: Callable[[int], bytes], times: int = TIMES) -> Callable[[], Iterator[bytes]]:
    """One thing after another, many times, in large sends."""

    def made() -> Iterator[bytes]:
        yield first
        for at in range(0, times, 100):
            yield b"".join(piece(number) for number in range(at, at + 100))

    return made


ATTACKS: dict[str, Callable[[], Iterator[bytes]]] = {
    "a GiB promised to a stream": lambda: promised(WRITE, 1 << 30),
    "a GiB promised to a call": lambda: promised(DESCRIBE, 1 << 30),
    "four GiB promised": lambda: promised(WRITE, (1 << 32) - 1),
    "60 MiB squeezed into 60 KiB, to a stream": lambda: bomb(WRITE),
    "60 MiB squeezed into 60 KiB, to a call": lambda: bomb(DESCRIBE),
    "compressed without an encoding": each(OPEN + call(WRITE) + data(head(8, 1) + bytes(8))),
    "an unknown flag of a message": each(OPEN + call(WRITE) + data(head(8, 255) + bytes(8))),
    "rapid resets": again(OPEN, lambda n: call(WRITE, 2 * n + 1) + frame(RST_STREAM, 0, 2 * n + 1, bytes(4))),
    "calls without end": again(OPEN, lambda n: call(DESCRIBE, 2 * n + 1)),
    "settings again and again": again(OPEN, lambda _: frame(SETTINGS, 0, 0, b"\x00\x04\x00\x00\xff\xff")),
    "pings again and again": again(OPEN, lambda _: frame(PING, 0, 0, bytes(8))),
    "empty data again and again": again(OPEN + call(WRITE), lambda _: frame(DATA, 0, 1, b"")),
    "continuations without end": again(
        OPEN + frame(HEADERS, 0, 1, headers(WRITE)),
        lambda _: frame(CONTINUATION, 0, 1, literal(b"x", bytes(1000))),
    ),
    "a header of a MiB": each(
        OPEN + frame(HEADERS, 0, 1, headers(WRITE)),
        *(frame(CONTINUATION, 0, 1, literal(b"x", b"y" * MIB)[at : at + (1 << 14)]) for at in range(0, MIB, 1 << 14)),
    ),
    "data on stream 0": each(OPEN + frame(DATA, 0, 0, bytes(9))),
    "data on a stream that is not open": each(OPEN + frame(DATA, 0, 7, bytes(9))),
    "an even stream": each(OPEN + call(WRITE, 2)),
    "a stream that goes back": each(OPEN + call(WRITE, 5) + call(WRITE, 3)),
    "a window of nothing": each(OPEN + call(WRITE) + frame(WINDOW_UPDATE, 0, 1, bytes(4))),
    "a window too wide": each(OPEN + call(WRITE) + 3 * frame(WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff")),
    "a frame longer than allowed": each(OPEN + call(WRITE) + frame(DATA, 0, 1, bytes(8 * MIB))),
    "frames of no kind": again(OPEN, lambda n: frame(10 + n % 240, 255, 0, bytes(64))),
    "the end before the message": each(OPEN + call(WRITE) + frame(DATA, END_STREAM, 1, head(99) + bytes(9))),
    "a goodbye, and on": each(OPEN + frame(GOAWAY, 0, 0, bytes(8)) + call(WRITE)),
    "another preface": each(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    "noise": each(bytes(range(256)) * 256),
}


@pytest.mark.timeout(300)
def test_whatever_is_sent_below_the_messages_harms_nobody(ledger: Ledger) -> None:
    pair = ledger.pair
    assert pair.appliance is not None
    link_for = agents_link(ledger)
    before, first = sorted((pair.folder / "store").glob("tenants/*/replicas/*/points/*")), peak(ledger)
    grown = {}
    for name, attack in ATTACKS.items():
        most = peak(ledger)
        with link_for() as link:
            send(link, attack())
        grown[name] = peak(ledger) - most
        assert pair.appliance.process.poll() is None, name
    print({name: f"{grew / MIB:.1f} MiB" for name, grew in grown.items() if grew})
    assert peak(ledger) - first < MOST_GROWTH_BYTES, grown
    assert sorted((pair.folder / "store").glob("tenants/*/replicas/*/points/*")) == before
    assert "Traceback" not in pair.log.read_text()
    ledger.write(1 << 18)
    ledger.sync()
    ledger.check()


def peak(ledger: Ledger) -> int:
    """The most bytes that were ever resident of the appliance."""
    assert ledger.pair.appliance is not None
    status = Path(f"/proc/{ledger.pair.appliance.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def agents_link(ledger: Ledger) -> Callable[[], ssl.SSLSocket]:
    """Connections with a good certificate."""
    agent = ledger.pair.folder / "agent"
    context = ssl.create_default_context(cafile=str(agent / "ca.crt"))
    context.load_cert_chain(agent / "agent.crt", agent / "agent.key")
    context.set_alpn_protocols(["h2"])

    def made() -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", ledger.pair.lab.data_port), timeout=5)
        return context.wrap_socket(plain, server_hostname="127.0.0.1")

    return made


def send(link: ssl.SSLSocket, pieces: Iterator[bytes]) -> None:
    """Send all that is taken, and hear what comes back until the link is cut or has been silent for a while."""
    link.settimeout(0.5)
    with contextlib.suppress(OSError):
        for piece in pieces:
            link.sendall(piece)
    with contextlib.suppress(OSError):
        while link.recv(1 << 16):
            pass

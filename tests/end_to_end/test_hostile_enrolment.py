"""Hundreds of strangers at the enrolment port who say nothing, or not to the end: a customer pairs all the same."""

import itertools
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from common.pairing_line import parse
from tests.end_to_end.idle import Held, kept_up
from tests.end_to_end.pair import Pair
from tests.end_to_end.test_pairing import fed, line_of
from tests.hostile.http2 import DATA, END_HEADERS, HEADERS, PREFACE, SETTINGS, frame, headers
from tests.lab.site import Lab

pytestmark = pytest.mark.lab

EACH = 200
ENROLL = b"/keysapart.v1.Enrollment/Enroll"
BODY = b"\x00" + struct.pack(">I", 1 << 10) + bytes(1 << 10)
MOST_GROWTH_BYTES = 96 << 20


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """An appliance that serves; the agent has no certificate yet."""
    with Lab(tmp_path / "lab", disk_mib=8) as lab, Pair(lab, kms="embedded", tenants=()) as made:
        yield made


@pytest.mark.parametrize("addresses", [1, EACH])
def test_a_customer_pairs_beside_hundreds_of_strangers(pair: Pair, addresses: int) -> None:
    line = line_of(pair, "tenants", "add", "acme")
    assert pair.appliance is not None
    process = psutil.Process(pair.appliance.process.pid)
    before = process.memory_info().rss
    with kept_up(list(strangers(line, addresses))) as held:
        assert held.made >= 5 * EACH
        told = fed(pair, line)
        grown = process.memory_info().rss - before
        assert told.code == 0, told
        print(f"{addresses} addresses: grown by {grown >> 20} MiB, {process.num_threads()} threads")
        assert grown < MOST_GROWTH_BYTES
        assert pair.appliance.stop() == 0
    log = pair.log.read_text()
    assert "strangers crowd the port" in log
    assert "Traceback" not in log


def strangers(line: str, addresses: int) -> Iterator[Held]:
    """So many each: without TLS, without a call, without a request, with half of one, and with a byte a second."""
    to = ("127.0.0.1", int(parse(line).address.rpartition(":")[2]))
    sources = itertools.cycle(f"127.0.2.{number + 1}" for number in range(addresses))
    context = unverified()

    def tcp() -> socket.socket:
        return socket.create_connection(to, timeout=20, source_address=(next(sources), 0))

    def tls() -> socket.socket:
        return context.wrap_socket(tcp(), server_hostname="127.0.0.1")

    for _ in range(EACH):
        yield Held(tcp)
        yield Held(tls)
        yield Held(tls, 1, ENROLL, BODY, later=0)
        yield Held(tls, 1, ENROLL, BODY, at_once=len(BODY) // 2, later=0)
        yield Held(tls, 1, ENROLL, BODY)


def unverified() -> ssl.SSLContext:
    """A stranger does not care who answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def test_a_message_is_refused_by_its_head_and_a_flood_is_cut(pair: Pair) -> None:
    line = line_of(pair, "tenants", "add", "acme")
    port = int(parse(line).address.rpartition(":")[2])
    opening = PREFACE + frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_HEADERS, 1, headers(ENROLL))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=20) as plain,
        unverified().wrap_socket(plain, server_hostname="127.0.0.1") as link,
    ):
        link.sendall(opening + frame(DATA, 0, 1, b"\x00" + struct.pack(">I", 9 << 10)))
        heard = b""
        while b"larger than max" not in heard:
            heard += (more := link.recv(4096))
            assert more, "nothing was said of the message's length"
        with pytest.raises((ConnectionError, ssl.SSLError)):
            flood(link)
    assert fed(pair, line).code == 0


def flood(link: ssl.SSLSocket) -> None:
    """64 MiB, far more than buffers on the way hold."""
    for _ in range(4096):
        link.sendall(frame(DATA, 0, 1, bytes(1 << 14)))

"""Clients that break the protocol, stall, crowd or flood are cut, and others are served as if they were alone."""

import select
import struct
import threading

import pytest
import structlog

from target_appliance.present.clients import Bounds
from tests.fakes.nbd_client import GO, LIST, READ, WRITE, NbdClient
from tests.unit.target_appliance.present.conftest import SIZE, shown

SOON = Bounds(stranger_seconds=0.3, take_seconds=0.3, give_seconds=0.3)
PATIENT = Bounds(stranger_seconds=600, take_seconds=600, give_seconds=600)


def wrong_flags(client):
    client.sock.sendall(struct.pack(">I", 0))


def unknown_flags(client):
    client.sock.sendall(struct.pack(">I", 1 << 9 | 1))


def http(client):
    client.sock.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")


def wrong_option_magic(client):
    client.sock.sendall(struct.pack(">I", 3) + b"IHAVEOPS" + struct.pack(">II", GO, 0))


def oversize_option(client):
    client.sock.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", GO, 0xFFFFFFFF))


def options_without_end(client):
    client.sock.sendall(struct.pack(">I", 3))
    for _ in range(256):
        client.option(LIST)


def reads(client):
    client.sock.sendall(struct.pack(">I", 3))
    client.go("disk-2000")


def wrong_request_magic(client):
    reads(client)
    client.send(READ, 0, 512, magic=1)


def oversize_write(client):
    reads(client)
    client.send(WRITE, 0, (32 << 20) + 1)


BREAKS = [
    wrong_flags,
    unknown_flags,
    http,
    wrong_option_magic,
    oversize_option,
    options_without_end,
    wrong_request_magic,
    oversize_write,
]


def silent(_client):
    pass


def silent_after_its_flags(client):
    client.sock.sendall(struct.pack(">I", 3))


def half_an_option(client):
    client.sock.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", GO, 100) + b"x")


def half_a_request(client):
    reads(client)
    client.sock.sendall(b"\x25\x60\x95\x13")


def a_write_that_does_not_come(client):
    reads(client)
    client.send(WRITE, 0, 1 << 20, data=b"x")


def takes_nothing(client):
    reads(client)
    for _ in range(64):
        client.send(READ, 0, SIZE)


STALLS = [silent, silent_after_its_flags, half_an_option, half_a_request, a_write_that_does_not_come, takes_nothing]


def hung_up(sock):
    """Whether the server ends it within a while, without that anything is read from it."""
    poll = select.poll()
    poll.register(sock, select.POLLHUP)
    return bool(poll.poll(20_000))


def told(lines):
    return [line["cause"] for line in lines if line["event"] == "client cut"]


@pytest.mark.parametrize(
    ("misbehave", "bounds"), [*((one, PATIENT) for one in BREAKS), *((one, SOON) for one in STALLS)]
)
def test_it_is_cut_with_a_reason_and_its_neighbour_reads_on(world, tmp_path, misbehave, bounds):
    with (
        structlog.testing.capture_logs() as lines,
        shown(world, tmp_path / "s", bounds=bounds) as view,
        view.client() as neighbour,
        NbdClient(view.path, greet=False) as client,
    ):
        neighbour.go("disk-2000")
        client.take(18)
        misbehave(client)
        assert hung_up(client.sock)
        assert neighbour.read(0, SIZE) == world.image(1)
    assert len(told(lines)) == 1


def test_a_crowd_of_silent_connections_keeps_nobody_out(world, tmp_path):
    with shown(world, tmp_path / "s", bounds=PATIENT) as view, view.client() as early:
        early.go("disk-2000")
        crowd = [NbdClient(view.path, greet=False) for _ in range(300)]
        with view.client() as late:
            late.go("disk-2000")
            assert late.read(0, SIZE) == early.read(0, SIZE) == world.image(1)
        for one in crowd[:200]:
            assert hung_up(one.sock)
        assert len(view.clients._all) <= 66
        for one in crowd:
            one.sock.close()


@pytest.mark.parametrize("bounds", [Bounds(of_one=2), Bounds(clients=2)])
def test_one_caller_has_so_many_connections_and_no_more(world, tmp_path, bounds):
    with (
        structlog.testing.capture_logs() as lines,
        shown(world, tmp_path / "s", bounds=bounds) as view,
        view.client() as first,
        view.client() as second,
        view.client() as third,
    ):
        for client in (first, second):
            client.go("disk-2000")
            assert client.read(0, 512) == world.image(1)[:512]
        third.go("disk-2000")
        assert third.gone()
        assert first.read(0, SIZE) == world.image(1)
    assert told(lines) == ["local has too many connections open, or all have together"]


def test_half_of_the_clients_misbehave_while_others_read_everything(world, tmp_path):
    """Eight readers and as many of each that breaks or stalls, all at once."""
    wrong = []

    def good(view, number):
        with view.client() as client:
            client.go("disk-2000")
            for at in range(0, SIZE, 70_001 + number):
                length = min(70_001 + number, SIZE - at)
                if client.read(at, length) != world.image(1)[at : at + length]:
                    wrong.append(at)

    def bad(view, misbehave):
        with NbdClient(view.path, greet=False) as client:
            try:
                client.take(18)
                misbehave(client)
            except (OSError, EOFError):
                pass
            hung_up(client.sock)

    patient_enough = Bounds(stranger_seconds=5, take_seconds=1, give_seconds=1)
    with shown(world, tmp_path / "s", bounds=patient_enough) as view:
        threads = [threading.Thread(target=good, args=(view, number)) for number in range(8)]
        threads += [threading.Thread(target=bad, args=(view, one)) for one in (*BREAKS, *STALLS) if one is not silent]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        read = view.clients.bytes_read
    assert wrong == []
    assert read >= 8 * SIZE


def test_a_failure_of_ours_ends_one_client(world, tmp_path):
    with (
        structlog.testing.capture_logs() as lines,
        shown(world, tmp_path / "s") as view,
        view.client() as client,
        view.client() as other,
    ):
        client.go("disk-2000")
        other.go("disk-2001")
        view.disks["disk-2000"].extents = None
        client.send(7, 0, 512)
        assert client.gone()
        assert other.read(0, 512) == world.image(1, 2001)[:512]
    assert [line["error"] for line in lines if line["event"] == "unexpected failure"] == ["TypeError"]

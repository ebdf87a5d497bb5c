"""The door: who leaves when it is full, what one connection may cost, and how it closes."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from target_appliance.server.door import Bounds, door, stranger, who_leaves

ROOM = Bounds(connections=4, seconds=60)


@contextmanager
def echoing(folder: Path, bounds: Bounds) -> Iterator[tuple[int, list[str]]]:
    """A door before a server that echoes; the port, and names of those who came."""
    names: list[str] = []
    with socket.socket(socket.AF_UNIX) as inner:
        inner.bind(str(folder / "s"))
        inner.listen(64)

        def echo(link: socket.socket) -> None:
            with link:
                while data := link.recv(65536):
                    link.sendall(data)

        def accept() -> None:
            while True:
                try:
                    link, name = inner.accept()
                except OSError:
                    return
                names.append("unix-abstract:" + bytes(name[1:]).decode())
                threading.Thread(target=echo, args=(link,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        with door("127.0.0.1:0", str(folder / "s"), bounds) as port:
            yield port, names
        inner.shutdown(socket.SHUT_RDWR)


def connected(port: int, source: str = "127.0.0.1") -> socket.socket:
    """A connection that was carried."""
    link = socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))
    link.sendall(b"hello")
    assert link.recv(5) == b"hello"
    return link


def is_over(link: socket.socket) -> bool:
    """Wait for the end."""
    with link, suppress(ConnectionError):
        while link.recv(65536):
            pass
    return True


@given(st.lists(st.sampled_from("abc"), min_size=1))
def test_who_has_the_most_loses_the_oldest(addresses: list[str]) -> None:
    place = who_leaves(addresses)
    assert addresses.count(addresses[place]) == max(map(addresses.count, addresses))
    assert addresses[place] not in addresses[:place]


def test_a_crowd_from_one_address_pushes_out_nobody_else(tmp_path: Path) -> None:
    with echoing(tmp_path, ROOM) as (port, _names):
        honest = connected(port, "127.0.0.3")
        crowd = [connected(port, "127.0.0.2") for _ in range(20)]
        assert all(is_over(one) for one in crowd[:-3])
        for one in (honest, *crowd[-3:]):
            one.sendall(b"still")
            assert one.recv(5) == b"still"
            one.close()


def test_a_newcomer_gets_in_among_strangers_of_many_addresses(tmp_path: Path) -> None:
    with echoing(tmp_path, ROOM) as (port, _names):
        crowd = [connected(port, f"127.0.1.{number}") for number in range(1, 10)]
        connected(port).close()
        assert is_over(crowd[0])
        for one in crowd:
            one.close()


def test_whom_a_connection_is_from_is_told(tmp_path: Path) -> None:
    with echoing(tmp_path, ROOM) as (port, names), connected(port) as link:
        assert [stranger(name) for name in names] == [f"ipv4:127.0.0.1:{link.getsockname()[1]}"]


def test_bytes_and_life_are_bounded(tmp_path: Path) -> None:
    with echoing(tmp_path, Bounds(seconds=60, bytes_in=100)) as (port, _names), connected(port) as link:
        link.sendall(bytes(95))
        received = 0
        while received < 95:
            received += len(link.recv(95))
        link.sendall(b"x")
        assert is_over(link)


def test_an_old_connection_ends(tmp_path: Path) -> None:
    with echoing(tmp_path, Bounds(seconds=0.2)) as (port, _names):
        link = socket.create_connection(("127.0.0.1", port), timeout=20)
        assert is_over(link)
        link.close()


def test_closing_ends_what_is_open(tmp_path: Path) -> None:
    with echoing(tmp_path, ROOM) as (port, _names):
        link = connected(port)
    assert is_over(link)
    link.close()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=20)


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(OSError, match="in use"),
        door(f"127.0.0.1:{taken.getsockname()[1]}", str(tmp_path / "s"), ROOM),
    ):
        pass

import os
import socket
from contextlib import suppress

import pytest

from source_agent.daemon.notify import Notify


@pytest.fixture
def manager(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_a_path(manager, tmp_path):
    Notify({"NOTIFY_SOCKET": str(tmp_path / "notify")}).tell(READY="1", STATUS="at work")
    assert manager.recv(100) == b"READY=1\nSTATUS=at work"


def test_an_abstract_name():
    name = f"keysapart-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name}")
        listening.settimeout(5)
        Notify({"NOTIFY_SOCKET": f"@{name}"}).tell(STOPPING="1")
        assert listening.recv(100) == b"STOPPING=1"


@pytest.mark.parametrize(
    ("pid", "watched"), [(str(os.getpid()), True), ("1", False), (None, True)], ids=["this", "another", "any"]
)
def test_beats_go_out_only_where_this_process_is_watched(manager, tmp_path, pid, watched):
    found = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"}
    notify = Notify(found if pid is None else {**found, "WATCHDOG_PID": pid})
    notify.beat()
    notify.tell(READY="1")
    assert manager.recv(100) == (b"WATCHDOG=1" if watched else b"READY=1")


@pytest.mark.parametrize("found", [{}, {"NOTIFY_SOCKET": "/nonexistent/socket"}, {"WATCHDOG_USEC": "x"}])
def test_no_manager_is_no_failure(found):
    notify = Notify(found)
    notify.tell(READY="1")
    notify.beat()


def test_a_manager_that_does_not_read_holds_nobody_up(manager, tmp_path):
    notify = Notify({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                filler.sendto(b"x", str(tmp_path / "notify"))
    notify.tell(READY="1")

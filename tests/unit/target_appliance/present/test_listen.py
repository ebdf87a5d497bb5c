"""The socket is its owner's from its first moment, stands in nobody's way, and is gone at the end."""

import os
import socket
import stat

import pytest

from common.errors import AlreadyExistsError, BusyError, InvalidInputError, NotFoundError, PreconditionError
from target_appliance.present.listen import tcp_port, unix_socket


def test_it_is_private_and_removed(tmp_path):
    before = os.umask(0)
    try:
        with unix_socket(tmp_path / "s"):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [lambda path: path.write_text("mine"), lambda path: path.symlink_to("nowhere")])
def test_what_is_there_stays(tmp_path, make):
    make(tmp_path / "s")
    with pytest.raises(AlreadyExistsError), unix_socket(tmp_path / "s"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_what_took_its_place_stays(tmp_path):
    with unix_socket(tmp_path / "s"):
        (tmp_path / "s").unlink()
        (tmp_path / "s").write_text("another's")
    assert (tmp_path / "s").read_text() == "another's"


def test_refusals(tmp_path):
    with pytest.raises(NotFoundError), unix_socket(tmp_path / "absent" / "s"):
        pass
    with pytest.raises(InvalidInputError), unix_socket(tmp_path / ("s" * 200)):
        pass
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(PreconditionError), unix_socket(tmp_path / "open" / "s"):
        pass


def test_a_port_is_any_free_one_or_taken():
    with tcp_port("127.0.0.1:0") as listener:
        port = listener.getsockname()[1]
        with pytest.raises(BusyError), tcp_port(f"127.0.0.1:{port}"):
            pass
    with pytest.raises(BusyError), tcp_port("192.0.2.1:1"):
        pass
    assert listener.family == socket.AF_INET

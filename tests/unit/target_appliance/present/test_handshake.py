"""Before the first read: what is offered, to clients of every age, and what is refused."""

import struct

import pytest

from tests.fakes.nbd_client import (
    ABORT,
    ACK,
    EXPORT_NAME,
    GO,
    INFO,
    INVALID,
    LIST,
    LIST_META,
    META,
    POLICY,
    SET_META,
    STARTTLS,
    STATUS,
    STRUCTURED,
    UNKNOWN,
    UNSUPPORTED,
    ServerError,
    contexts,
    string,
)
from tests.unit.target_appliance.present.conftest import OTHER_SIZE, SIZE, shown

READ_ONLY_MULTI_CONN_DF = 0b1_1000_0011


def test_exports_are_listed_by_their_disks(view):
    with view.client() as client:
        *exports, last = client.option(LIST)
    assert [data[4:].decode() for _, data in exports] == ["disk-2000", "disk-2001"]
    assert last == (ACK, b"")


def test_go_tells_size_flags_name_and_block_sizes(view):
    with view.client() as client:
        answers = client.option(GO, string("disk-2000") + struct.pack(">HH", 1, 3))
    assert [data for _, data in answers] == [
        struct.pack(">HQH", 0, SIZE, READ_ONLY_MULTI_CONN_DF),
        struct.pack(">H", 1) + b"disk-2000",
        struct.pack(">HIII", 3, 1, 65536, 32 << 20),
        b"",
    ]


def test_info_chooses_nothing(view):
    with view.client() as client:
        assert client.option(INFO, string("disk-2001") + b"\0\0")[-1] == (ACK, b"")
        assert client.go("disk-2000") == SIZE


@pytest.mark.parametrize("name", ["", "disk-2002", "../disk-2000"])
def test_an_export_that_is_not_there(view, name):
    with view.client() as client:
        assert client.option(GO, string(name) + b"\0\0") == [(UNKNOWN, b"")]
        assert client.option(STRUCTURED) == [(ACK, b"")]
        assert client.option(SET_META, contexts(name, "base:allocation")) == [(UNKNOWN, b"")]


def test_the_only_disk_is_the_default_export(world, tmp_path):
    with shown(world, tmp_path / "s", point=2, disks=(2000,)) as view, view.client() as client:
        assert client.go("") == SIZE


@pytest.mark.parametrize(("flags", "padding"), [(1, 124), (3, 0)])
def test_old_clients_name_their_export(view, world, flags, padding):
    with view.client(flags=flags) as client:
        client.sock.sendall(b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, 9) + b"disk-2001")
        assert client.take(10 + padding) == struct.pack(">QH", OTHER_SIZE, READ_ONLY_MULTI_CONN_DF) + bytes(padding)
        assert client.read(0, OTHER_SIZE) == world.image(1, 2001)


def test_a_wrong_old_name_ends_the_connection(view):
    with view.client() as client:
        client.sock.sendall(b"IHAVEOPT" + struct.pack(">II", EXPORT_NAME, 4) + b"none")
        assert client.gone()


@pytest.mark.parametrize(
    ("queries", "listed", "set_"),
    [
        ((), True, False),
        (("base:allocation",), True, True),
        (("base:",), True, False),
        (("qemu:allocation-depth", "base:allocation"), True, True),
        (("x-other:thing", "no colon"), False, False),
    ],
)
def test_contexts(view, queries, listed, set_):
    with view.client() as client:
        client.option(STRUCTURED)
        for option, there, number in ((LIST_META, listed, 0), (SET_META, set_, 1)):
            *found, last = client.option(option, contexts("disk-2000", *queries))
            assert last == (ACK, b"")
            assert found == ([(META, struct.pack(">I", number) + b"base:allocation")] if there else [])


def test_contexts_need_structured_replies(view):
    with view.client() as client:
        assert client.option(SET_META, contexts("disk-2000", "base:allocation")) == [(INVALID, b"")]


def test_a_context_of_another_export_does_not_count(view):
    with view.client() as client:
        client.option(STRUCTURED)
        client.option(SET_META, contexts("disk-2001", "base:allocation"))
        client.go("disk-2000", structured=False)
        client.structured = True
        with pytest.raises(ServerError):
            client.ask(STATUS, 0, 512)


@pytest.mark.parametrize(
    ("option", "data", "answer"),
    [
        (4, b"", UNSUPPORTED),
        (11, b"", UNSUPPORTED),
        (0xFFFF, b"x" * 100, UNSUPPORTED),
        (STARTTLS, b"", POLICY),
        (LIST, b"x", INVALID),
        (STRUCTURED, b"x", INVALID),
        (GO, b"", INVALID),
        (GO, struct.pack(">I", 500) + b"disk-2000\0\0", INVALID),
        (GO, string("disk-2000"), INVALID),
        (GO, string("disk-2000") + struct.pack(">HH", 2, 3), INVALID),
        (GO, struct.pack(">I", 2) + b"\xff\xff" + b"\0\0", INVALID),
        (GO, string("x" * 4097) + b"\0\0", INVALID),
        (SET_META, string("disk-2000"), INVALID),
        (SET_META, string("disk-2000") + struct.pack(">I", 2) + string("base:allocation"), INVALID),
    ],
)
def test_malformed_options_are_refused_and_the_client_may_go_on(view, option, data, answer):
    with view.client() as client:
        assert client.option(option, data) == [(answer, b"")]
        assert client.go("disk-2000") == SIZE


def test_abort_is_answered(view):
    with view.client() as client:
        assert client.option(ABORT) == [(ACK, b"")]
        assert client.gone()

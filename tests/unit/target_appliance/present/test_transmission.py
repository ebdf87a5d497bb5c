"""Reads and block status, for clients old and new; what is refused; what cannot be read."""

from unittest import mock

import pytest
import structlog

from common.errors import StoreError
from common.grain import GRAIN_BYTES
from common.ids import PointNumber
from target_appliance.recovery import names
from target_appliance.recovery.types import SyncKind
from tests.fakes.nbd_client import (
    CACHE,
    DF,
    DISC,
    EINVAL,
    EIO,
    EOVERFLOW,
    EPERM,
    ESHUTDOWN,
    FLUSH,
    ONE,
    READ,
    STATUS,
    TRIM,
    WRITE,
    ZEROES,
    ServerError,
)
from tests.fakes.replica import DISK, REPLICA, TENANT, World, grain_bytes, spec
from tests.unit.target_appliance.present.conftest import SIZE, shown

AREAS = [
    (0, SIZE),
    (0, 1),
    (SIZE - 1, 1),
    (SIZE - 512, 512),
    (GRAIN_BYTES - 100, 200),
    (3 * GRAIN_BYTES, 2 * GRAIN_BYTES),
    (16 * GRAIN_BYTES + 77, 3 * GRAIN_BYTES),
    (39 * GRAIN_BYTES + 5, GRAIN_BYTES),
]


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize(("offset", "length"), AREAS)
def test_reads_equal_the_point(view, world, offset, length, structured):
    with view.client() as client:
        client.go("disk-2000", structured=structured)
        assert client.read(offset, length) == world.image(1)[offset : offset + length]


def test_zeros_travel_as_holes_unless_fragments_are_refused(view, world):
    with view.client() as client:
        client.go("disk-2000")
        client.read(2 * GRAIN_BYTES, 3 * GRAIN_BYTES)
        assert sorted({kind for kind, _, _ in client.chunks}) == ["data", "hole"]
        assert client.read(2 * GRAIN_BYTES, GRAIN_BYTES * 3, DF) == world.image(1)[2 * GRAIN_BYTES : 5 * GRAIN_BYTES]
        assert client.chunks == [("data", 2 * GRAIN_BYTES, 3 * GRAIN_BYTES)]


def test_a_long_simple_read_is_not_held_in_memory(view, world):
    with view.client() as client:
        client.go("disk-2000", structured=False)
        assert client.read(0, 33 * GRAIN_BYTES) == world.image(1)[: 33 * GRAIN_BYTES]


def test_reading_in_order_reads_ahead_and_stays_right(view, world):
    with view.client() as client:
        client.go("disk-2000")
        parts = [client.read(at, min(5000, SIZE - at)) for at in range(0, SIZE, 5000)]
    assert b"".join(parts) == world.image(1)


def test_status_tells_what_is_zeros(view):
    with view.client() as client:
        client.go("disk-2000")
        grain = GRAIN_BYTES
        whole = [(3 * grain, 0), (14 * grain, 3), (grain, 0), (21 * grain, 3), (grain + 3 * 512, 0)]
        assert client.ask(STATUS, 0, SIZE) == whole
        assert client.ask(STATUS, 0, SIZE, ONE) == whole[:1]
        assert client.ask(STATUS, 3 * grain - 10, 30) == [(10, 0), (20, 3)]
        assert client.ask(STATUS, 17 * grain + 1, 512) == [(512, 0)]


def test_grains_of_zeros_over_data_are_zeros(world, tmp_path):
    with shown(world, tmp_path / "s", point=2, disks=(2000,)) as view, view.client() as client:
        client.go()
        assert client.ask(STATUS, GRAIN_BYTES, 3 * GRAIN_BYTES) == [(GRAIN_BYTES, 0), (2 * GRAIN_BYTES, 3)]
        assert client.read(0, SIZE) == world.image(2)


@pytest.mark.parametrize("structured", [False, True])
@pytest.mark.parametrize(
    ("error", "request_"),
    [
        (EPERM, (WRITE, 0, 512, 0, bytes(512))),
        (EPERM, (TRIM, 0, 512, 0, b"")),
        (EPERM, (ZEROES, 0, 512, 0, b"")),
        (EINVAL, (READ, SIZE - 10, 11, 0, b"")),
        (EINVAL, (READ, 1 << 63, 512, 0, b"")),
        (EINVAL, (READ, 0, 0, 0, b"")),
        (EINVAL, (READ, 0, 512, 1 << 12, b"")),
        (EINVAL, (FLUSH, 0, 0, 0, b"")),
        (EINVAL, (CACHE, 0, 512, 0, b"")),
        (EINVAL, (99, 0, 512, 0, b"")),
        (EINVAL, (STATUS, SIZE, 512, 0, b"")),
        (EINVAL, (STATUS, 0, 512, DF, b"")),
    ],
)
def test_refused_requests_leave_the_connection_whole(view, world, structured, error, request_):
    with view.client() as client:
        client.go("disk-2000", structured=structured)
        with pytest.raises(ServerError) as refused:
            client.ask(*request_)
        assert refused.value.number == error
        assert client.read(0, 512) == world.image(1)[:512]


def test_flags_of_structured_replies_need_them(view):
    with view.client() as client:
        client.go("disk-2000", structured=False)
        with pytest.raises(ServerError, match=f"error {EINVAL} "):
            client.read(0, 512, DF)


def test_too_much_at_once(tmp_path):
    world = World()
    world.sync({spec(capacity_bytes=64 << 20): {0: grain_bytes(1)}})
    with shown(world, tmp_path / "s", disks=(2000,)) as view, view.client() as client:
        client.go()
        for length, flags in (((32 << 20) + 1, 0), ((1 << 20) + 1, DF)):
            with pytest.raises(ServerError, match=f"error {EOVERFLOW} "):
                client.read(0, length, flags)
        assert client.read(0, 32 << 20) == world.image(1)[: 32 << 20]


def test_disconnect_ends_it(view):
    with view.client() as client:
        client.go("disk-2000")
        client.send(DISC)
        assert client.gone()


def test_what_comes_after_the_end_has_begun_is_told_so(view):
    with view.client() as client:
        client.go("disk-2000")
        view.clients._stopping.set()
        with pytest.raises(ServerError, match=f"error {ESHUTDOWN} "):
            client.read(0, 512)


def test_closing_ends_clients_that_wait(view):
    with view.client() as client:
        client.go("disk-2000")
        view.clients.close()
        assert client.gone()


GRAIN_17 = (17 * GRAIN_BYTES, GRAIN_BYTES)


@pytest.fixture
def damaged():
    """Point 2 of a replica in whose base a byte of grain 17 is another one; its neighbours are whole."""
    world = World()
    world.sync({spec(capacity_bytes=SIZE): {grain: grain_bytes(grain, random_bytes=True) for grain in (16, 17, 18)}})
    world.sync({spec(capacity_bytes=SIZE, kind=SyncKind.DELTA): {18: grain_bytes(9)}}, SyncKind.DELTA)
    with world.vault.chain(TENANT, REPLICA, DISK, PointNumber(1)) as chain:
        name = chain.extent_name(chain.layers[0], 0)
        offset = chain.extent(chain.layers[0], 0).entry(17) * 512 + 1000
    world.store.content(f"{names.point_folder(TENANT, REPLICA, 1)}/{name}")[offset] ^= 1
    return world


@pytest.mark.parametrize(("structured", "flags"), [(False, 0), (True, 0), (True, DF)])
def test_damage_is_an_error_there_and_nowhere_else(damaged, tmp_path, structured, flags):
    with shown(damaged, tmp_path / "s", point=2, disks=(2000,)) as view, view.client() as client:
        client.go(structured=structured)
        image = damaged.image(2)
        with structlog.testing.capture_logs() as told:
            for offset, length in (GRAIN_17, (17 * GRAIN_BYTES + 70, 1), (16 * GRAIN_BYTES, 3 * GRAIN_BYTES)):
                with pytest.raises(ServerError) as failed:
                    client.read(offset, length, flags)
                assert failed.value.number == EIO
                assert failed.value.offset == (max(offset, 17 * GRAIN_BYTES) if structured else None)
        for grain in (16, 18):
            assert client.read(grain * GRAIN_BYTES, GRAIN_BYTES, flags) == image[grain * GRAIN_BYTES :][:GRAIN_BYTES]
    (line,) = told
    assert "point 1, disk 2000, file disk-2000" in line["cause"]
    assert "grain 17" in line["cause"]


def test_a_long_simple_read_of_damage_is_cut(tmp_path, damaged):
    with shown(damaged, tmp_path / "s", point=2, disks=(2000,)) as view, view.client() as client:
        client.go(structured=False)
        with pytest.raises(EOFError):
            client.read(0, 33 * GRAIN_BYTES)


def test_a_damaged_manifest_is_an_error_for_reads_and_status(tmp_path):
    world = World()
    world.sync({spec(capacity_bytes=SIZE): {0: grain_bytes(1)}})
    manifest = world.store.content(f"{names.point_folder(TENANT, REPLICA, 1)}/{names.manifest_file(DISK)}")
    manifest[-1] ^= 1
    with shown(world, tmp_path / "s", disks=(2000,)) as view, view.client() as client:
        client.go()
        for command in (READ, STATUS):
            with pytest.raises(ServerError, match=f"error {EIO} "):
                client.ask(command, 0, GRAIN_BYTES)


def test_a_store_that_fails_for_a_while_is_read_again(tmp_path):
    world = World()
    world.sync({spec(capacity_bytes=SIZE): {0: grain_bytes(1)}})
    with shown(world, tmp_path / "s", disks=(2000,)) as view, view.client() as client:
        client.go()
        disk = view.disks["disk-2000"]
        error = StoreError("the disk is slow", subject="file", next_step="wait")
        failing = mock.patch.object(disk._view, "load", side_effect=error)
        with failing, pytest.raises(ServerError, match=f"error {EIO} "):
            client.read(0, 512)
        assert client.read(0, SIZE) == world.image(1)


def test_space_is_given_back_when_the_view_has_ended_not_before(tmp_path):
    """The point itself may be dropped meanwhile, and reads as it did."""
    world = World()
    world.sync({spec(capacity_bytes=SIZE): {grain: grain_bytes(grain, random_bytes=True) for grain in range(20)}})
    for number in (2, 3):
        changes = {grain: grain_bytes(grain + number) for grain in range(20)}
        world.sync({spec(capacity_bytes=SIZE, kind=SyncKind.DELTA): changes}, SyncKind.DELTA)
    image = world.image(2)
    with shown(world, tmp_path / "s", point=2, disks=(DISK,)) as view:
        with view.client() as client:
            client.go("disk-2000")
            client.read(0, 1)
        for number in (1, 2):
            world.drop(number)
        done = world.vault.reclaim(TENANT, REPLICA)
        assert (done.removed, done.put_off is not None) == ([], True)
        with view.client() as client:
            client.go("disk-2000")
            assert client.read(0, SIZE) == image

    assert world.vault.reclaim(TENANT, REPLICA).removed
    assert world.read(3) == world.image(3)

"""What every block reader does: the memory one, and hot-add and VDDK over memory's vCenter and over the lab's."""

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest

from common.clock import SystemClock
from common.errors import KeysapartError, SourceError
from common.extent import Extent, normalise
from source_agent.disk_read.hotadd.reader import HotAddReader
from source_agent.disk_read.memory import MemoryReader
from source_agent.vsphere.thumbprint import thumbprint
from tests.contracts.vddk_stage import on_memory, reader_over
from tests.contracts.vsphere_worlds import AGENT_VM, WEB, MemoryWorld, in_lab, settings

MIB = 1 << 20


IN_LAB = ["hotadd on the lab", "vddk on the lab"]


@pytest.fixture(
    params=[
        "memory",
        "hotadd on memory",
        "vddk on memory",
        *(pytest.param(one, marks=pytest.mark.lab) for one in IN_LAB),
    ]
)
def stage(request, tmp_path):
    """A world with a reader for it."""
    if request.param in IN_LAB:
        lab = request.getfixturevalue("lab")
        with in_lab(lab) as world:
            reader = hot_add(world, tmp_path) if request.param == "hotadd on the lab" else over_lab(lab, tmp_path)
            yield world, reader
            reader.close()
        return
    world = MemoryWorld(tmp_path / "site")
    for start in (0, 3 * MIB, 8 * MIB - 512):
        world.write(WEB, 2000, start, b"data" * 128)
    if request.param == "vddk on memory":
        with on_memory(world, tmp_path / "vddk") as reader:
            yield world, reader
        return
    reader = MemoryReader(world.site) if request.param == "memory" else hot_add(world, tmp_path)
    yield world, reader
    reader.close()


def hot_add(world, tmp_path):
    return HotAddReader(world.vsphere, AGENT_VM, tmp_path / "state", SystemClock(), device_dir=world.devices)


def over_lab(lab, tmp_path):
    return reader_over(
        lab.vddk,
        tmp_path / "state",
        server=lab.vcenter.host,
        port=lab.vcenter.port,
        user=lab.vcenter.user,
        password=lambda: lab.vcenter.password,
        thumbprint=lambda: thumbprint(settings(lab)),
    )


@pytest.fixture
def world(stage):
    return stage[0]


@pytest.fixture
def reader(stage):
    return stage[1]


@pytest.fixture
def taken(world):
    """A snapshot, after which the guest goes on writing; with the images it froze."""
    images = {key: world.image(WEB, key) for key in (2000, 2001)}
    moref = world.vsphere.vm(WEB).moref
    made = world.vsphere.create_snapshot(moref, "frozen", "", quiesce=False)
    world.write(WEB, 2000, 0, b"later" * 1000)
    world.write(WEB, 2001, 65530, b"later" * 1000)
    return made, images


def whole(opened, capacity, step=MIB):
    found = bytearray(capacity)
    view = memoryview(found)
    for offset in range(0, capacity, step):
        with opened.lend(Extent(offset, min(step, capacity - offset))) as lent:
            view[offset : offset + step] = lent
    return found


def test_every_byte_is_what_was_frozen(reader, taken):
    made, images = taken
    for disk in made.disks:
        with reader.open(made, disk) as opened:
            assert whole(opened, disk.capacity_bytes) == images[disk.key]


def test_any_sector_can_be_read_alone(reader, taken):
    made, images = taken
    disk = made.disks[1]
    with reader.open(made, disk) as opened:
        for offset in (disk.capacity_bytes - 512, 512, 0):
            with opened.lend(Extent(offset, 512)) as sector:
                assert sector == images[disk.key][offset : offset + 512]


def test_what_is_announced_changes_no_byte(reader, taken):
    made, images = taken
    disk = made.disks[1]
    step = 1 << 18
    pieces = [Extent(at, min(step, disk.capacity_bytes - at)) for at in range(0, disk.capacity_bytes, 2 * step)]
    with reader.open(made, disk) as opened:
        opened.expect(pieces)
        for number, piece in enumerate(pieces):
            with opened.lend(piece) as lent:
                assert lent == images[disk.key][piece.offset : piece.end]
            if number % 5 == 0:
                with opened.lend(Extent(512, 1024)) as out_of_turn:
                    assert out_of_turn == images[disk.key][512:1536]


def test_a_vm_is_held_and_let_go(world, reader):
    moref = world.vsphere.vm(WEB).moref
    with reader.held(moref):
        pass
    assert reader.release_leftovers() == 0


def test_what_is_lent_stays_while_others_read_on(reader, taken):
    made, images = taken
    disk = made.disks[1]
    pieces = [Extent(at, MIB) for at in range(0, 16 * MIB, MIB)]
    with reader.open(made, disk) as opened, ThreadPoolExecutor(3) as threads:
        opened.expect(pieces[1:])

        def same(piece):
            with opened.lend(piece) as lent:
                first = bytes(lent)
                threading.Event().wait(0.001)
                return first == lent == images[disk.key][piece.offset : piece.end]

        with opened.lend(pieces[0]) as kept:
            assert all(threads.map(same, pieces[1:]))
            assert kept == images[disk.key][:MIB]


@pytest.mark.parametrize(("offset", "length"), [(8 * MIB, 512), (8 * MIB - 512, 1024), (100, 512), (0, 100)])
def test_a_read_that_does_not_fit_fails(reader, taken, offset, length):
    made, _ = taken
    with (
        reader.open(made, made.disks[0]) as opened,
        pytest.raises(KeysapartError),
        opened.lend(Extent(offset, length)),
    ):
        pass


def test_allocated_parts_are_in_order_and_leave_out_zeros_only(reader, taken):
    made, images = taken
    disk = made.disks[0]
    with reader.open(made, disk) as opened:
        for wanted in (Extent(0, disk.capacity_bytes), Extent(MIB, 3 * MIB), Extent(8 * MIB - 65536, 65536)):
            found = list(opened.allocated(wanted))
            assert all(wanted.offset <= one.offset < one.end <= wanted.end for one in found)
            assert all(one.end <= other.offset for one, other in pairwise(found))
            kept = bytearray(disk.capacity_bytes)
            for one in normalise(found):
                kept[one.offset : one.end] = images[2000][one.offset : one.end]
            assert kept[wanted.offset : wanted.end] == images[2000][wanted.offset : wanted.end]
        assert list(opened.allocated(Extent(512, 0))) == []


def test_disks_are_open_side_by_side(reader, taken):
    made, images = taken
    with reader.open(made, made.disks[0]) as first, reader.open(made, made.disks[1]) as second:
        for opened, disk in ((second, made.disks[1]), (first, made.disks[0])):
            assert whole(opened, disk.capacity_bytes) == images[disk.key]


def test_a_disk_that_was_released_is_read_no_more_and_stays_released(world, reader, taken):
    """A thread may come late with its read when a sync is given up."""
    made, _ = taken
    before = world.vsphere.vm(AGENT_VM).disks
    with reader.open(made, made.disks[0]) as opened:
        pass
    with pytest.raises(SourceError), opened.lend(Extent(0, 512)):
        pass
    assert world.vsphere.vm(AGENT_VM).disks == before


def test_nothing_stays_attached(world, reader, taken):
    made, _ = taken
    before = world.vsphere.vm(AGENT_VM).disks
    with pytest.raises(ValueError, match="mine"), reader.open(made, made.disks[0]):
        raise ValueError("mine")
    assert world.vsphere.vm(AGENT_VM).disks == before
    world.vsphere.remove_snapshot(world.vsphere.vm(WEB).moref, made.moref)
    assert not world.vsphere.vm(WEB).consolidation_needed


def test_without_leftovers_there_is_nothing_to_release(reader):
    assert reader.release_leftovers() == 0


def test_a_snapshot_that_is_gone_cannot_be_opened(world, reader, taken):
    made, _ = taken
    world.vsphere.remove_snapshot(world.vsphere.vm(WEB).moref, made.moref)
    before = world.vsphere.vm(AGENT_VM).disks
    with pytest.raises(KeysapartError):
        reader.open(made, made.disks[0])
    assert world.vsphere.vm(AGENT_VM).disks == before

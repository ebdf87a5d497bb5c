"""Reclaiming: what it writes, what it leaves alone, and what it refuses."""

import pytest

from common.errors import DamagedError, FencedError
from common.grain import GRAIN_BYTES
from target_appliance.recovery import names
from target_appliance.recovery.types import SyncKind
from target_appliance.vmdk.layout import SECTOR_BYTES
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT, World, grain_bytes, send, spec
from tests.faults.merge_world import FOLDER, check_kept, leaked, small_extents
from tests.faults.store import FaultFile, FaultStore

DELTA = SyncKind.DELTA
GIB64 = 64 << 30


class CountingFile(FaultFile):
    def append(self, pieces):
        self._trap.written += sum(map(len, pieces))
        self._inner.append(pieces)

    def overwrite(self, offset, data):
        self._trap.written += len(data)
        self._inner.overwrite(offset, data)


class CountingStore(FaultStore):
    """Counts the bytes that are handed to it."""

    def create(self, path):
        return CountingFile(self._inner.create(path), path, self.trap)


def counting():
    world = World()
    store = CountingStore(world.store)
    store.trap.written = 0
    return World(store, world.kms, world.clock), store.trap


def bytes_of(world, point):
    return sum(
        len(world.store._inner.content(f"{FOLDER}/points/{point:06d}/{name}"))
        for name in world.store.names(f"{FOLDER}/points/{point:06d}")
    )


def test_deltas_of_one_percent_into_a_sparse_base_of_64_gib():
    """Each delta is dropped as soon as the next is there; all that is written is told at the port."""
    world, trap = counting()
    step = GIB64 // GRAIN_BYTES // 500
    world.sync(
        {spec(capacity_bytes=GIB64): {grain * step: grain_bytes(grain, random_bytes=True) for grain in range(500)}}
    )
    deltas, written = 0, 0
    for number in range(2, 115):
        changes = {(number * 5 + place) % 500 * step: grain_bytes(number, random_bytes=True) for place in range(5)}
        world.sync({spec(capacity_bytes=GIB64, kind=DELTA): changes}, DELTA)
        deltas += bytes_of(world, number)
        world.drop(number - 1)
        trap.written = 0
        world.vault.reclaim(TENANT, REPLICA)
        written += trap.written
        assert written <= 3 * deltas
    assert written
    check_kept(world)


def test_an_extent_that_the_delta_did_not_touch_is_moved_not_written(monkeypatch):
    small_extents(monkeypatch)
    world, trap = counting()
    size = 8 * 512 * GRAIN_BYTES
    base = {extent * 512 + place: grain_bytes(extent, random_bytes=True) for extent in range(8) for place in range(30)}
    world.sync({spec(capacity_bytes=size): base})
    for _ in range(2):
        changes = {1024 + place: grain_bytes(place, random_bytes=True) for place in range(30)}
        world.sync({spec(capacity_bytes=size, kind=DELTA): changes}, DELTA)
    before = {
        number: bytes(world.store._inner.content(f"{FOLDER}/points/000001/disk-{DISK}-s{number:03d}.vmdk"))
        for number in (1, 8)
    }
    world.drop(1)
    trap.written = 0

    assert world.vault.reclaim(TENANT, REPLICA).removed == [1]

    assert trap.written < bytes_of(world, 3) * 1.5
    for number, content in before.items():
        assert world.store._inner.content(f"{FOLDER}/points/000002/disk-{DISK}-s{number:03d}.vmdk") == content
    check_kept(world)


def chain(world):
    world.sync({spec(): {grain: grain_bytes(grain) for grain in range(20)}})
    for number in range(2, 5):
        world.sync({spec(kind=DELTA): {grain: grain_bytes(number + grain) for grain in range(19)}}, DELTA)


@pytest.mark.parametrize("file", [f"disk-{DISK}.vmdk", f"disk-{DISK}.digests"])
def test_rot_is_never_copied(file):
    world = World()
    chain(world)
    content = world.store.content(f"{FOLDER}/points/000002/{file}")
    content[len(content) // 3] ^= 1
    before = {path: bytes(data) for path, data in world.store._files.items() if "points" in path}
    world.drop(1)
    world.drop(2)

    with pytest.raises(DamagedError, match=f"000002/{file}"):
        world.vault.reclaim(TENANT, REPLICA)

    after = {path: bytes(data) for path, data in world.store._files.items() if "points" in path}
    assert {path: after[path] for path in before} == before
    assert leaked(world.store) == []
    assert [finding.point for finding in world.vault.verify(TENANT, REPLICA, with_key=False).findings][:1] == [2]


@pytest.mark.parametrize("several", [False, True])
def test_an_extent_that_only_looks_empty_is_not_lost(several, monkeypatch):
    """What the merge was planned with is read without digests: there, a directory of zeros holds nothing."""
    size, name = 1 << 22, f"disk-{DISK}.vmdk"
    if several:
        small_extents(monkeypatch)
        size, name = 2 * 512 * GRAIN_BYTES, f"disk-{DISK}-s001.vmdk"
    world = World()
    world.sync({spec(capacity_bytes=size): {grain: grain_bytes(grain) for grain in range(20)}})
    for number in (2, 3):
        changes = {grain: grain_bytes(number + grain, random_bytes=True) for grain in range(19)}
        world.sync({spec(capacity_bytes=size, kind=DELTA): changes}, DELTA)
    content = world.store.content(f"{FOLDER}/points/000001/{name}")
    directory = int.from_bytes(content[56:64], "little") * SECTOR_BYTES
    content[directory : directory + 4] = bytes(4)
    world.drop(1)
    world.drop(2)

    with pytest.raises(DamagedError, match=f"000001/{name}"):
        world.vault.reclaim(TENANT, REPLICA)

    assert world.store.names(f"{FOLDER}/points") == ("000001", "000002", "000003")


def test_who_reads_goes_first():
    world = World()
    chain(world)
    with world.vault.view(TENANT, REPLICA, DISK, 2) as view:
        world.drop(1)
        world.drop(2)
        done = world.vault.reclaim(TENANT, REPLICA)
        assert (done.removed, done.waiting) == ([], 2)
        assert "locked" in done.put_off
        assert view.read(0, 1)[0] == grain_bytes(2)

    done = world.vault.reclaim(TENANT, REPLICA)

    assert (done.removed, done.waiting, done.put_off) == ([1, 2], 0, None)
    assert done.freed > 0
    check_kept(world)


def test_a_sync_whose_base_went_meanwhile_is_no_point():
    world = World()
    world.sync({spec(): {0: grain_bytes(1)}, spec(OTHER_DISK): {0: grain_bytes(2)}})
    world.sync({spec(): {0: grain_bytes(3)}})
    staged = world.begin({spec(): {}, spec(OTHER_DISK, kind=SyncKind.COMPARE): {}}, SyncKind.COMPARE)
    for disk in (DISK, OTHER_DISK):
        send(staged.disk(disk), {})
    world.drop(1)
    assert world.vault.reclaim(TENANT, REPLICA).removed == [1]

    with pytest.raises(FencedError, match="point 1, on which disk 2001 was to stand, was dropped meanwhile"):
        staged.commit()
    staged.discard()
    check_kept(world)


def test_a_disk_that_nothing_needs_goes_before_its_point_does():
    world = World()
    big = {grain: grain_bytes(grain, random_bytes=True) for grain in range(20)}
    world.sync({spec(): big, spec(OTHER_DISK): big})
    world.sync({spec(kind=DELTA): {0: grain_bytes(1)}}, DELTA)
    world.drop(1)

    done = world.vault.reclaim(TENANT, REPLICA)

    assert done.removed == []
    assert done.freed > 20 * GRAIN_BYTES
    assert names.digests_file(OTHER_DISK) not in world.store.names(f"{FOLDER}/points/000001")
    assert world.vault.reclaim(TENANT, REPLICA).freed == 0
    check_kept(world)


def test_verify_tells_a_dropped_point_from_a_lost_one():
    world = World()
    chain(world)
    world.drop(1)
    world.drop(2)
    assert world.vault.reclaim(TENANT, REPLICA).removed == [1, 2]
    assert world.vault.verify(TENANT, REPLICA, with_key=True, committed=[1, 2, 3, 4]).findings == ()

    world.store.remove_tree(f"{FOLDER}/records")

    found = world.vault.verify(TENANT, REPLICA, with_key=True, committed=[3, 4]).findings
    assert {(finding.kind.value, finding.point) for finding in found} >= {("missing", 2)}


def test_what_a_point_costs_counts_the_dropped_ones_below_it():
    world, _ = counting()
    chain(world)
    before = {number: world.vault.stored_bytes(TENANT, REPLICA, number) for number in range(1, 5)}
    world.drop(2)

    assert world.vault.stored_bytes(TENANT, REPLICA, 3) == before[2] + before[3]
    assert world.vault.stored_bytes(TENANT, REPLICA, 1) == before[1]
    kept = world.vault.point_numbers(TENANT, REPLICA)
    each = {number: world.vault.stored_bytes(TENANT, REPLICA, number) for number in kept}
    assert world.vault.every_stored_bytes(TENANT, REPLICA) == each

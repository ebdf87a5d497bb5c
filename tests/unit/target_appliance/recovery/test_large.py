"""Disks that are larger than an extent, than 2 TiB, and as large as vSphere makes them; and what a thin one costs."""

import json
import random
import subprocess
import tracemalloc

import pytest

from common.grain import GRAIN_BYTES, grain_count
from common.ids import DiskKey
from target_appliance.recovery.types import SyncKind
from target_appliance.seal.keys import DataKey
from target_appliance.store.memory import MemoryStore
from target_appliance.store.posix import PosixStore
from tests.fakes.replica import DISK, REPLICA, TENANT, World, grain_bytes, send, spec
from tests.second_reader.reader import Replica

DELTA = SyncKind.DELTA
GIB = 1 << 30
EXTENT_GRAINS = 64 * GIB // GRAIN_BYTES


def qemu(*words):
    return subprocess.run(
        ["qemu-img", *map(str, words)], capture_output=True, text=True, check=True, timeout=240
    ).stdout


def test_a_disk_past_2_tib(tmp_path):
    size = 3 * (1 << 40) + 5 * 512
    last = grain_count(size) - 1
    store = PosixStore(tmp_path)
    world = World(store)
    world.sync({spec(capacity_bytes=size): {0: grain_bytes(1), 2 * (1 << 40) // GRAIN_BYTES + 3: grain_bytes(2)}})
    world.sync({spec(capacity_bytes=size, kind=DELTA): {last - 1: grain_bytes(3), last: grain_bytes(4)}}, DELTA)

    assert world.differences(1) == []
    assert world.differences(2) == []
    assert world.vault.verify(TENANT, REPLICA, with_key=True).findings == ()
    replica = tmp_path / "tenants" / TENANT / "replicas" / REPLICA
    second = {grain: data.ljust(GRAIN_BYTES, b"\0") for grain, data in Replica(replica).grains(2, DISK, world.dek())}
    assert second == world.model[2][DISK][1]
    # Empty extents take a few KiB each: 49 of them here.
    assert world.vault.stored_bytes(TENANT, REPLICA, 2) < 49 * (12 << 10)
    info = json.loads(qemu("info", "--backing-chain", "--output=json", replica / "points/000002/disk-2000.vmdk"))
    assert [image["virtual-size"] for image in info] == [size, size]
    store.close()


@pytest.mark.parametrize("grains", [{}, {5: grain_bytes(1)}], ids=["empty", "one grain"])
def test_qemu_checks_parent_and_child_of_several_extents(tmp_path, grains):
    size = 64 * GIB + 9 * GRAIN_BYTES
    store = PosixStore(tmp_path)
    world = World(store)
    world.sync({spec(capacity_bytes=size): {EXTENT_GRAINS - 1: grain_bytes(1), EXTENT_GRAINS: grain_bytes(2)}})
    world.sync({spec(capacity_bytes=size, kind=DELTA): {EXTENT_GRAINS: None, **grains}}, DELTA)
    points = tmp_path / "tenants" / TENANT / "replicas" / REPLICA / "points"

    assert world.differences(1) == world.differences(2) == []
    for point in ("000001", "000002"):
        assert "No errors were found" in qemu("check", points / point / "disk-2000.vmdk")
    areas = json.loads(qemu("map", "--output=json", points / "000002/disk-2000.vmdk"))
    held = {(area["start"] // GRAIN_BYTES, area["depth"], area["data"]) for area in areas if area["present"]}
    assert held == {(EXTENT_GRAINS, 0, False), (EXTENT_GRAINS - 1, 1, True), *((grain, 0, True) for grain in grains)}
    store.close()


def test_the_largest_disk_needs_little_memory():
    """62 TiB with a grain in the first and the last extent: tables exist for what is held only."""
    size = 62 << 40
    world = World(MemoryStore())
    changes = {spec(capacity_bytes=size): {0: grain_bytes(1), grain_count(size) - 1: grain_bytes(2)}}
    staged = world.begin(changes)
    writer = staged.disk(DISK)
    stored = sum(map(len, world.store._files.values()))
    tracemalloc.start()
    send(writer, changes[spec(capacity_bytes=size)])
    writer.finish()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    done = staged.commit()
    world.note(done.number, changes)

    # What the memory store itself keeps is counted in the peak: over-allocated at most by an eighth.
    written = sum(map(len, world.store._files.values())) - stored
    assert peak - written * 9 / 8 < 16 << 20
    assert world.differences(1) == []
    assert written < 992 * (12 << 10)


def test_a_thin_disk_costs_what_it_holds():
    """64 GiB with 100 MiB of random bytes, spread over the disk by the grain: at most 110 MiB in all."""
    rng = random.Random(1)
    world = World(MemoryStore())
    grains = dict.fromkeys(rng.sample(range(EXTENT_GRAINS), 1600), rng.randbytes(GRAIN_BYTES))

    done = world.sync({spec(capacity_bytes=64 * GIB): grains})

    assert 100 << 20 < done.stored_bytes <= 110 << 20


def test_a_delta_without_changes_costs_next_to_nothing():
    world = World()
    world.sync({spec(): {0: grain_bytes(1)}})
    done = world.sync({spec(kind=DELTA): {}}, DELTA)

    assert done.stored_bytes < 16 << 10
    assert world.differences(2) == []


def test_keys_of_the_whole_range():
    key = DataKey(REPLICA, DiskKey((1 << 31) - 1), 1, bytes(32))

    assert len(key.binding((1 << 32) - 1)) == 24

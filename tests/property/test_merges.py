"""Random chains whose points are dropped and merged at random: every kept point reads as ever, after each step.

Extents are a few table groups long, so that disks have several of them.
"""

import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import NotFoundError, PreconditionError
from common.grain import GRAIN_BYTES, grain_count
from target_appliance.recovery import merge_plan
from target_appliance.recovery.export.forms import Form
from target_appliance.recovery.types import SyncKind
from target_appliance.store.posix import PosixStore
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT, World, grain_bytes, spec
from tests.faults.merge_world import check_kept, leaked, small_extents
from tests.second_reader.reader import Replica

pytestmark = pytest.mark.usefixtures("uncovered")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small_extents(monkeypatch)


def random_sync(world, rng, sizes):
    """One point: disks that grow, come and go, with zeros and data, near one another and far apart."""
    disks = {}
    for key in sizes:
        if rng.random() < 0.25 and (key != DISK or OTHER_DISK in disks):
            continue
        held = any(key in world.model[number] for number in world.model)
        kind = rng.choice([SyncKind.DELTA] * 6 + [SyncKind.COMPARE, SyncKind.FULL])
        if not held or (kind is not SyncKind.FULL and rng.random() < 0.3):
            kind = SyncKind.COMPARE
        if kind is SyncKind.COMPARE and rng.random() < 0.4:
            sizes[key] += rng.randrange(1, 300 * 128) * 512
        grains = grain_count(sizes[key])
        start = rng.randrange(grains)
        touched = {rng.randrange(grains) for _ in range(rng.randrange(6))}
        touched |= set(range(start, min(grains, start + rng.randrange(8))))
        disks[spec(key, sizes[key], kind)] = {
            grain: None if rng.random() < 0.2 else grain_bytes(rng.randrange(1 << 30)) for grain in touched
        }
    if not disks:
        disks = {spec(DISK, sizes[DISK], SyncKind.COMPARE): {}}
    world.sync(disks, SyncKind.COMPARE)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from([2, 3, 32]))
def test_kept_points_read_as_ever(seed, fan):
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as name:
        patch.setattr(merge_plan, "FAN", fan)
        store = PosixStore(Path(name))
        world = World(store)
        folder = Path(name) / "tenants" / TENANT / "replicas" / REPLICA
        sizes = {DISK: rng.randrange(1, 900 * 128) * 512, OTHER_DISK: rng.randrange(1, 40 * 128) * 512}
        for _ in range(rng.randrange(4, 16)):
            random_sync(world, rng, sizes)
            for number in rng.sample(sorted(world.model), rng.randrange(min(4, len(world.model)))):
                if number != world.newest:
                    world.drop(number)
            if rng.random() < 0.6:
                world.vault.reclaim(TENANT, REPLICA)
                assert leaked(store) == []
                check_kept(world)
                second(world, folder, rng)
        for number in list(world.model)[:-1]:
            world.drop(number)
        world.vault.reclaim(TENANT, REPLICA)
        check_kept(world)
        assert world.vault.point_numbers(TENANT, REPLICA) == (world.newest,)
        store.close()


def second(world, folder, rng):
    """The reader written from the page agrees, at one point."""
    number = rng.choice(sorted(world.model))
    out = folder.parent / "second.raw"
    for disk in world.model[number]:
        Replica(folder).write(number, disk, world.dek(disk), out)
        assert out.read_bytes() == world.image(number, disk)
        out.unlink()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_qemu_reads_merged_chains(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(merge_plan, "FAN", 3)
    rng = random.Random(seed)
    store = PosixStore(tmp_path)
    world = World(store)
    size = {1: 40, 2: 700, 3: 1100}[seed] * GRAIN_BYTES
    kind = SyncKind.FULL
    for _ in range(12):
        touched = rng.sample(range(grain_count(size)), 20)
        world.sync({spec(DISK, size, kind): {grain: grain_bytes(rng.random()) for grain in touched}}, kind)
        kind = SyncKind.DELTA
    removed = []
    for number in [1, 2, 3, 5, 6, 7, 8, 10, 11]:
        world.drop(number)
        removed += world.vault.reclaim(TENANT, REPLICA).removed
    assert removed
    for number in world.model:
        path = tmp_path / f"tenants/{TENANT}/replicas/{REPLICA}/points/{number:06d}/disk-{DISK}.vmdk"
        assert "file format: vmdk" in qemu("info", "--backing-chain", path)
        assert "No errors were found" in qemu("check", path)
        assert qemu("map", "--output=json", path).startswith("[")
        model, out = tmp_path / "model.raw", tmp_path / "out.raw"
        model.write_bytes(world.image(number))
        world.vault.export(TENANT, REPLICA, DISK, number, form=Form.RAW, path=out)
        assert "identical" in qemu("compare", "-f", "raw", "-F", "raw", model, out)
        out.unlink()
    store.close()
    shutil.rmtree(tmp_path / "tenants")


def qemu(*words):
    return subprocess.run(
        ["qemu-img", *map(str, words)], capture_output=True, text=True, check=True, timeout=120
    ).stdout


def test_a_dropped_point_is_none_and_the_newest_is_never_dropped():
    world = World()
    for _ in range(3):
        world.sync({spec(): {0: grain_bytes(1)}})
    world.drop(1)

    for call in (
        lambda: world.vault.point(TENANT, REPLICA, 1),
        lambda: world.vault.chain(TENANT, REPLICA, DISK, 1),
        lambda: world.vault.drop(TENANT, REPLICA, 1, "again"),
        lambda: world.vault.verify(TENANT, REPLICA, with_key=True, point=1),
    ):
        with pytest.raises(NotFoundError, match="has no point 1"):
            call()
    with pytest.raises(PreconditionError, match="the newest is never dropped"):
        world.vault.drop(TENANT, REPLICA, 3, "try")
    assert world.vault.point_numbers(TENANT, REPLICA) == (2, 3)
    assert world.vault.dropped_numbers(TENANT, REPLICA) == (1,)

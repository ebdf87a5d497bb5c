"""Drops and merges killed, failing and losing power at every step, without a KMS: what is kept stays, nothing leaks."""

import copy
import os
import shutil
import signal

import pytest

from common.errors import KeysapartError, KmsUnavailableError
from target_appliance.recovery.dropped import DROP_STEPS
from target_appliance.recovery.merge_moves import MERGE_STEPS
from target_appliance.recovery.types import SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.store.memory import MemoryStore
from target_appliance.store.posix import PosixStore
from tests.fakes.clock import ManualClock
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT, World, grain_bytes, spec
from tests.faults.merge_world import FOLDER, check_kept, leaked, small_extents
from tests.faults.power import RecordingStore, states
from tests.faults.store import FaultStore, Killed, Trap, io_error, killed, no_room

pytestmark = pytest.mark.usefixtures("uncovered")

DELTA = SyncKind.DELTA
SIZE = 600 * 65536
DROPPED = (1, 2, 4, 6, 7)
KILLS = 60


class Stopped:
    """A KMS that is not there."""

    def __getattr__(self, name):
        raise KmsUnavailableError("the KMS is stopped", subject="kms", next_step="start it")


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    small_extents(monkeypatch)


def built(store):
    """Eight points: overwritten and moved extents, a disk that goes away, zeros."""
    world = World(store)
    first = {0: grain_bytes(1), 5: grain_bytes(2), 590: grain_bytes(3)}
    world.sync({spec(DISK, SIZE): first, spec(OTHER_DISK, 512): {}})
    for point in range(2, 9):
        disks = {spec(DISK, SIZE, DELTA): {0: grain_bytes(point), point: None, 5: grain_bytes(-point)}}
        if point in {2, 3}:
            disks[spec(OTHER_DISK, 512, DELTA)] = {0: grain_bytes(100 + point)}
        world.sync(disks, DELTA)
    return world


def dropping(store, failpoint=lambda _step: None):
    """What is killed: drops and merges, without a KMS."""
    vault = Vault(store, Stopped(), ManualClock(), failpoint)
    for point in DROPPED:
        vault.drop(TENANT, REPLICA, point, "test")
        vault.reclaim(TENANT, REPLICA)
    return vault


def found_again(store, world):
    """The next start: it settles without a KMS; then all that is kept reads as ever, and nothing leaked."""
    vault = Vault(store, Stopped(), world.clock)
    vault.settle(TENANT, REPLICA)
    kept = vault.point_numbers(TENANT, REPLICA)
    assert {3, 5, 8} <= set(kept) <= set(world.model)
    # A point that was dropped just before waits for the next run, as it would have without the end.
    assert [name for name in leaked(store) if not name.startswith("point ")] == []
    model = {number: world.model[number] for number in kept}
    check_kept(World(store, world.kms, world.clock, model=model))
    return kept


def finished(store, world):
    """What was cut short is done by doing it again."""
    vault = Vault(store, Stopped(), world.clock)
    for point in set(DROPPED) & set(vault.point_numbers(TENANT, REPLICA)):
        vault.drop(TENANT, REPLICA, point, "test")
    vault.reclaim(TENANT, REPLICA)
    assert leaked(store) == []
    check_kept(World(store, world.kms, world.clock, model={number: world.model[number] for number in (3, 5, 8)}))


def copied(store):
    """A memory store once more."""
    again = MemoryStore()
    again._files = copy.deepcopy(store._files)
    again._folders = set(store._folders)
    again._protected = set(store._protected)
    return again


def test_sigkill_at_sixty_moments_and_at_every_named_step(tmp_path):
    world = built(PosixStore(_made(tmp_path / "start")))
    counted = Trap()
    shutil.copytree(tmp_path / "start", tmp_path / "count")
    vault = dropping(FaultStore(PosixStore(tmp_path / "count"), counted))
    assert len(vault.dropped_numbers(TENANT, REPLICA)) == len(DROPPED)
    steps = []
    shutil.copytree(tmp_path / "start", tmp_path / "steps")
    dropping(PosixStore(tmp_path / "steps"), steps.append)
    assert set(steps) == {*DROP_STEPS, *MERGE_STEPS}
    changing = [place for place, call in enumerate(counted.calls, 1) if not call.startswith(("read_at", "open"))]
    moments = [("call", changing[number * len(changing) // KILLS]) for number in range(KILLS)]
    moments += [("step", place) for place in range(len(steps)) if steps[place] not in steps[:place]]
    for what, moment in moments:
        folder = tmp_path / "killed"
        shutil.copytree(tmp_path / "start", folder)
        child = os.fork()
        if not child:
            _die(folder, what, moment)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, (what, moment)
        store = PosixStore(folder)
        found_again(store, world)
        finished(store, world)
        store.close()
        shutil.rmtree(folder)
    assert len(moments) >= KILLS + len(DROP_STEPS) + len(MERGE_STEPS)


def _made(folder):
    folder.mkdir()
    return folder


def _die(folder, what, moment):
    """In the child: drop and merge until the moment comes."""
    try:
        if what == "call":
            trap = Trap(at=moment, error=lambda _call: os.kill(os.getpid(), signal.SIGKILL))
            dropping(FaultStore(PosixStore(folder), trap))
        left = [moment]

        def failpoint(_step):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        dropping(PosixStore(folder), failpoint)
    finally:
        os._exit(1)


@pytest.mark.parametrize("error", [io_error, no_room])
def test_a_store_that_fails_once_at_any_step(error):
    start = MemoryStore()
    world = built(start)
    counted = Trap()
    dropping(FaultStore(copied(start), counted))
    for at in range(1, len(counted.calls) + 1, 11):
        store = copied(start)
        with pytest.raises(KeysapartError):
            dropping(FaultStore(store, Trap(at=at, error=error)))
        kept = Vault(store, world.kms, world.clock).point_numbers(TENANT, REPLICA)
        found = World(store, world.kms, world.clock, model={number: world.model[number] for number in kept})
        for number in kept:
            assert found.differences(number) == []
        found_again(store, world)
        finished(store, world)


def test_killed_between_any_two_calls_in_memory():
    start = MemoryStore()
    world = built(start)
    counted = Trap()
    dropping(FaultStore(copied(start), counted))
    for at in range(1, len(counted.calls) + 1, 9):
        store = copied(start)
        with pytest.raises(Killed):
            dropping(FaultStore(store, Trap(at=at, error=killed, for_good=True)))
        found_again(store, world)


def test_power_lost_at_any_step_of_a_merge():
    world = World(RecordingStore())
    world.sync({spec(DISK, SIZE): {0: grain_bytes(1), 590: grain_bytes(2)}})
    world.sync({spec(DISK, SIZE, DELTA): {0: grain_bytes(3), 1: None}}, DELTA)
    world.sync({spec(DISK, SIZE, DELTA): {0: grain_bytes(4)}}, DELTA)
    start = copied(world.store)

    def make():
        store = RecordingStore()
        store._files, store._folders = copy.deepcopy(start._files), set(start._folders)
        return store

    world.store.steps.clear()
    vault = Vault(world.store, Stopped(), world.clock)
    vault.drop(TENANT, REPLICA, 2, "test")
    vault.drop(TENANT, REPLICA, 1, "test")
    assert vault.reclaim(TENANT, REPLICA).removed == [1, 2]
    outcomes = set()
    for store in states(make, list(world.store.steps), 1):
        found = Vault(store, Stopped(), world.clock)
        found.settle(TENANT, REPLICA)
        kept = found.point_numbers(TENANT, REPLICA)
        check_kept(World(store, world.kms, world.clock, model={number: world.model[number] for number in kept}))
        outcomes.add((kept, "records" in store.names(FOLDER)))
    assert outcomes >= {((1, 2, 3), False), ((1, 3), False), ((3,), False), ((3,), True)}

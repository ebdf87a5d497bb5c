"""A process that dies, and a store that fails, at every call of a sync: old or new, never a third."""

import pytest

from common.errors import StoreError
from common.ids import SyncId, new_sync_id
from target_appliance.recovery.staging import COMMIT_STEPS, POINTS_SYNCED, RENAMED
from target_appliance.recovery.types import SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.store.posix import PosixStore
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT, World, grain_bytes, header, send, spec
from tests.faults.store import FaultStore, Killed, Trap, io_error, killed, no_room

DELTA = SyncKind.DELTA
CHANGES = {
    spec(kind=DELTA): {0: None, 1: grain_bytes(11), 63: grain_bytes(12, random_bytes=True)},
    spec(OTHER_DISK, kind=DELTA): {2: grain_bytes(13)},
}


# Fixed, because it is part of test names.
SYNC = SyncId("00000000-0000-4000-8000-00000000000d")


def base_world(store=None):
    world = World(store) if store else World()
    world.sync({spec(): {0: grain_bytes(1), 1: grain_bytes(2)}, spec(OTHER_DISK): {2: grain_bytes(3)}})
    return world


def check_old_or_new(world):
    """After a restart: every committed point is right and verifies; returns the newest. A next sync works."""
    vault = world.vault
    vault.syncs.sweep(TENANT, REPLICA)
    vault.syncs.sweep(TENANT, REPLICA)
    numbers = vault.point_numbers(TENANT, REPLICA)
    assert numbers in {(1,), (1, 2)}
    world.model.pop(2, None)
    if len(numbers) == 2:
        world.note(2, CHANGES)
    for number in numbers:
        for disk in (DISK, OTHER_DISK):
            assert world.differences(number, disk) == []
    report = vault.verify(TENANT, REPLICA, with_key=True)
    assert report.findings == ()
    world.sync({spec(kind=DELTA): {5: grain_bytes(20)}, spec(OTHER_DISK, kind=DELTA): {}}, DELTA)
    assert world.differences(world.newest) == []
    return len(numbers)


def run(world, vault):
    """One sync through ``vault``, given up like a process that dies."""
    healthy, world.vault = world.vault, vault
    try:
        world.sync(CHANGES, DELTA, SYNC)
    finally:
        world.vault = healthy


@pytest.mark.parametrize("step", COMMIT_STEPS)
@pytest.mark.parametrize("posix", [False, True], ids=["memory", "posix"])
def test_killed_at_every_step_of_the_commit(step, posix, tmp_path):
    world = base_world(PosixStore(tmp_path) if posix else None)

    def failpoint(name):
        if name == step:
            trap.for_good, trap.at = True, 1
            raise Killed(name)

    trap = Trap(error=killed)
    with pytest.raises(Killed):
        run(world, Vault(FaultStore(world.store, trap), world.kms, world.clock, failpoint))

    assert check_old_or_new(world) == (2 if step in {RENAMED, POINTS_SYNCED} else 1)


def test_steps_are_reached_in_their_order():
    reached = []
    world = base_world()
    run(world, Vault(world.store, world.kms, world.clock, reached.append))

    per_disk = list(COMMIT_STEPS[:3])
    assert reached == per_disk + per_disk + list(COMMIT_STEPS[3:])


def calls_of_a_sync():
    world = base_world()
    trap = Trap()
    run(world, Vault(FaultStore(world.store, trap), world.kms, world.clock))
    return trap.calls


CALLS = calls_of_a_sync()


def test_the_sync_makes_the_calls_that_durability_needs():
    names = [call.split()[0] for call in CALLS]
    rename = CALLS.index("rename 000002")
    assert names.count("create") == 7
    assert all(CALLS.index(f"sync {call.split()[1]}") < rename for call in CALLS if call.startswith("create"))
    assert CALLS[rename - 1].startswith(("make_folder points", "sync_folder"))
    assert CALLS[rename + 1] == "sync_folder points"
    assert any(call.startswith("sync_folder") for call in CALLS[:rename])


@pytest.mark.parametrize("at", range(1, len(CALLS) + 1), ids=lambda at: f"{at}-{CALLS[at - 1]}".replace(" ", "-"))
def test_killed_at_every_call(at):
    world = base_world()
    trap = Trap(at=at, error=killed, for_good=True)
    with pytest.raises(Killed):
        run(world, Vault(FaultStore(world.store, trap), world.kms, world.clock))

    check_old_or_new(world)


@pytest.mark.parametrize("error", [io_error, no_room])
@pytest.mark.parametrize("at", range(1, len(CALLS) + 1), ids=lambda at: f"{at}-{CALLS[at - 1]}".replace(" ", "-"))
def test_the_store_fails_once_at_every_call(at, error):
    world = base_world()
    trap = Trap(at=at, error=error)
    after_rename = at > CALLS.index("rename 000002") + 1
    with pytest.raises(type(error("x")), match="failed"):
        run(world, Vault(FaultStore(world.store, trap), world.kms, world.clock))

    assert check_old_or_new(world) == (2 if after_rename else 1)


def test_a_disk_whose_write_failed_is_never_committed():
    world = base_world()
    trap = Trap(at=CALLS.index("append disk-2000.vmdk") + 1)
    vault = Vault(FaultStore(world.store, trap), world.kms, world.clock)
    staged = vault.syncs.begin(TENANT, REPLICA, new_sync_id(), header(CHANGES, 1, DELTA))
    grains = CHANGES[spec(kind=DELTA)]
    with pytest.raises(StoreError, match=r"append .* failed"):
        send(staged.disk(DISK), grains)
    send(staged.disk(OTHER_DISK), {})

    with pytest.raises(StoreError, match="takes no more data"):
        send(staged.disk(DISK), grains)
    with pytest.raises(StoreError, match="takes no more data"):
        staged.commit()
    staged.discard()
    assert check_old_or_new(world) == 1

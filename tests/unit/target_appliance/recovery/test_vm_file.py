"""The VM's configuration in a point: read back, and what was done to it shows."""

import pytest
from blake3 import blake3

from common.errors import DamagedError, NotFoundError
from common.ids import AgentId, SyncId, new_sync_id
from target_appliance.recovery import names, vm_file
from target_appliance.recovery.findings import Kind
from target_appliance.recovery.types import SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.seal import configuration
from target_appliance.seal.keys import DataKey
from tests.fakes.replica import (
    DISK,
    OTHER_DISK,
    REPLICA,
    TENANT,
    World,
    grain_bytes,
    header,
    send,
    spec,
    vm_configuration,
)

OWNER = AgentId("00000000-0000-4000-8000-0000000000aa")


@pytest.fixture
def world():
    """Three points: two processors, four, and one by an agent that does not tell."""
    made = World()
    for told, kind in (
        (vm_configuration(), SyncKind.FULL),
        (vm_configuration(cpus=4), SyncKind.DELTA),
        (None, SyncKind.DELTA),
    ):
        made.configuration = told
        made.sync({spec(OTHER_DISK, kind=kind): {}, spec(DISK, kind=kind): {1: grain_bytes(1)}}, kind)
    return made


def read(world, point):
    return vm_file.read(world.store, world.vault.keyring, TENANT, REPLICA, point)


def path(point):
    return f"{names.point_folder(TENANT, REPLICA, point)}/{names.VM_FILE}"


def content(world, point):
    with world.store.open(path(point)) as file:
        return file.read_at(0, file.size)


def put(world, point, data):
    world.store.remove_tree(path(point))
    with world.store.create(path(point)) as file:
        file.append([data])


def found(world, *, with_key):
    return [
        (finding.kind, finding.point)
        for finding in world.vault.verify(TENANT, REPLICA, with_key=with_key).findings
        if finding.file == names.VM_FILE
    ]


def test_each_point_holds_what_the_vm_was_then(world):
    assert [read(world, point) for point in (1, 2, 3)] == [vm_configuration(), vm_configuration(cpus=4), None]
    assert world.vault.verify(TENANT, REPLICA, with_key=True).findings == ()
    assert world.vault.point(TENANT, REPLICA, 1).vm.disk == DISK


def test_its_size_is_counted(world):
    staged = world.begin([spec()], SyncKind.FULL)
    world.configuration = vm_configuration()
    staged.discard()
    done = world.sync({spec(): {0: grain_bytes(3)}})

    assert done.stored_bytes == world.vault.stored_bytes(TENANT, REPLICA, done.number)


def test_nothing_of_it_is_in_the_clear(world):
    assert b"VM Network" not in content(world, 1)
    assert b"00:50:56" not in content(world, 1)


@pytest.mark.parametrize("with_key", [False, True])
def test_an_older_one_in_a_newer_ones_place_shows(world, with_key):
    put(world, 2, content(world, 1))

    assert found(world, with_key=with_key) == [(Kind.CORRUPT, 2)]
    with pytest.raises(DamagedError, match="not those committed"):
        read(world, 2)


def test_absence_shows(world):
    world.store.remove_tree(path(1))

    assert (Kind.MISSING, 1) in found(world, with_key=False)
    with pytest.raises(DamagedError, match="missing"):
        read(world, 1)


def test_one_that_no_commit_wrote_shows(world):
    put(world, 3, content(world, 2))

    assert found(world, with_key=False) == [(Kind.EXTRA, 3)]


def test_every_flipped_byte_shows(world):
    whole = content(world, 1)
    for place in range(len(whole)):
        put(world, 1, whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert found(world, with_key=False) == [(Kind.CORRUPT, 1)], place


def test_the_file_opens_for_its_own_point_and_sync_alone():
    key = DataKey(REPLICA, DISK, 1, bytes(32))
    sync, other = new_sync_id(), new_sync_id()
    sealed = configuration.seal(vm_configuration(), key, 1, sync, bytes)

    assert configuration.unseal(sealed, key, 1, sync) == vm_configuration()
    for wrong in (
        (key, 2, sync),
        (key, 1, other),
        (DataKey(REPLICA, OTHER_DISK, 1, bytes(32)), 1, sync),
        (DataKey(REPLICA, DISK, 2, b"\1" * 32), 1, sync),
    ):
        with pytest.raises(configuration.ConfigurationError):
            configuration.unseal(sealed, *wrong)
    with pytest.raises(configuration.ConfigurationError):
        configuration.unseal(b"", key, 1, sync)


def test_there_is_no_such_point(world):
    with pytest.raises(NotFoundError):
        read(world, 9)


def parked(world, told):
    """A sync that a process left open, and a vault of the next one."""
    sync = SyncId("00000000-0000-4000-8000-0000000000bb")
    world.vault.syncs.begin(TENANT, REPLICA, sync, header([spec()], world.newest, configuration=told), OWNER)
    return sync, Vault(world.store, world.kms, world.clock)


def test_a_sync_that_goes_on_after_a_restart_keeps_it():
    world = World()
    sync, vault = parked(world, vm_configuration(cpus=8))
    staged, _ = vault.syncs.reopen(TENANT, REPLICA, sync)
    send(staged.disk(DISK), {0: grain_bytes(1)})
    done = staged.commit()

    world.vault = vault
    assert read(world, done.number) == vm_configuration(cpus=8)
    assert vault.verify(TENANT, REPLICA, with_key=True).findings == ()


@pytest.mark.parametrize("left", [b"", b"x" * 60, None])
def test_it_does_not_go_on_with_another_one(left):
    world = World()
    sync, vault = parked(world, vm_configuration())
    staged = f"{names.sync_folder(TENANT, REPLICA, sync)}/{names.VM_FILE}"
    world.store.remove_tree(staged)
    if left is not None:
        with world.store.create(staged) as file:
            file.append([left])

    with pytest.raises(NotFoundError, match="cannot go on"):
        vault.syncs.reopen(TENANT, REPLICA, sync)


def test_the_records_digest_is_of_stored_bytes(world):
    assert world.vault.point(TENANT, REPLICA, 2).vm.digest == blake3(content(world, 2)).digest()

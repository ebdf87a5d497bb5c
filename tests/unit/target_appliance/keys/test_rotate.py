"""A rotated KEK: cut at every step, beside syncs, and the old one destroyed. A rotated DEK: a new chain."""

import threading
from dataclasses import replace

import pytest

from common.errors import DamagedError, KeyNotUsableError, KmsUnavailableError, NotFoundError, PreconditionError
from common.ids import ReplicaId, new_sync_id
from target_appliance.keys.rotate import destroy_retired, rotate_kek, unfinished
from target_appliance.keys.status import MOST_WRAPS, key_status
from target_appliance.kms.memory import MemoryKms
from target_appliance.kms.port import KekState
from target_appliance.recovery import names, small_file
from target_appliance.recovery.key_files import ChosenKek
from target_appliance.recovery.types import SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.seal import selfcheck
from target_appliance.store.posix import PosixStore
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT, World, grain_bytes, header, send, spec
from tests.faults.kms import FaultKms, KmsTrap
from tests.faults.store import FaultStore, Killed, Trap, killed

SECOND = ReplicaId("4c4c4544-0051-3010-8052-b4c04f564232")
DELTA = SyncKind.DELTA


def two_replicas():
    world = World()
    world.sync({spec(): {0: grain_bytes(1)}, spec(OTHER_DISK): {1: grain_bytes(2)}})
    world.sync({spec(kind=DELTA): {2: grain_bytes(3)}, spec(OTHER_DISK, kind=DELTA): {}}, DELTA)
    staged = world.vault.syncs.begin(TENANT, SECOND, new_sync_id(), header([spec()], 0))
    send(staged.disk(DISK), {0: grain_bytes(9)})
    staged.commit()
    return world


def anew(world):
    """Another process's view, with nothing kept."""
    world.vault = Vault(world.store, world.kms, world.clock)
    return world.vault


def stored(world):
    """All bytes of points."""
    return {path: bytes(content) for path, content in world.store._files.items() if "points" in path}


def all_open(world):
    anew(world)
    assert all(world.differences(point, disk) == [] for point in (1, 2) for disk in (DISK, OTHER_DISK))
    world.vault.view(TENANT, SECOND, DISK, 1).close()


def test_nothing_but_key_files_changes_and_the_old_kek_can_go():
    world = two_replicas()
    before, old = stored(world), world.vault.keyring.keks.known_id(TENANT)
    seen = []
    done = rotate_kek(world.vault, TENANT, destroy_old=True, progress=lambda *now: seen.append(now))
    assert (done.wrapped, done.replicas, done.went_on) == (3, 2, False)
    assert done.destroyed == (ChosenKek(None, old),)
    assert done.retired == ()
    assert seen == [(1, 2), (2, 2)]
    assert world.kms.state(old) is KekState.DESTROYED
    assert world.vault.keyring.files.wrapped_under(TENANT) == {done.kek: 3}
    assert stored(world) == before
    all_open(world)
    world.sync({spec(kind=DELTA): {5: grain_bytes(4)}}, DELTA)
    assert world.differences(3) == []


def test_killed_at_every_step_all_points_open_and_the_next_run_goes_on():
    step, went_on = 0, 0
    while True:
        step += 1
        world = two_replicas()
        before, old = stored(world), world.vault.keyring.keks.known_id(TENANT)
        trap = Trap(at=step, error=killed, for_good=True)
        try:
            rotate_kek(Vault(FaultStore(world.store, trap), world.kms, world.clock), TENANT, destroy_old=True)
        except Killed:
            pass
        else:
            break
        all_open(world)
        cut = unfinished(world.vault, TENANT)
        done = rotate_kek(world.vault, TENANT, destroy_old=True)
        assert done.went_on == cut
        went_on += cut
        assert stored(world) == before
        assert world.kms.state(old) is KekState.DESTROYED
        assert key_status(world.vault, TENANT, world.clock).retired == ()
        all_open(world)
    assert step > 20
    assert went_on > 5


def test_a_kms_that_fails_at_any_call_leaves_every_point_open():
    call = 0
    while True:
        call += 1
        world = two_replicas()
        try:
            rotate_kek(Vault(world.store, FaultKms(world.kms, KmsTrap(at=call)), world.clock), TENANT, destroy_old=True)
        except KmsUnavailableError:
            all_open(world)
            rotate_kek(world.vault, TENANT, destroy_old=True)
            all_open(world)
        else:
            break
    assert call > 10


def test_an_old_kek_is_not_destroyed_while_something_needs_it():
    world = two_replicas()
    old = world.vault.keyring.keks.known_id(TENANT)
    kept = world.vault.keyring.files.entries(TENANT, SECOND)
    rotate_kek(world.vault, TENANT)
    with world.vault.keyring.files.locked(TENANT):
        world.vault.keyring.files.put_entries(TENANT, SECOND, kept)  # as if a copy of the store was put back
    with pytest.raises(PreconditionError, match=f"still wrapped under key {old}"):
        destroy_retired(world.vault, TENANT)
    assert world.kms.state(old) is KekState.ACTIVE
    assert key_status(world.vault, TENANT, world.clock).unfinished
    assert rotate_kek(world.vault, TENANT, destroy_old=True).went_on
    all_open(world)


def test_a_kek_that_another_tenant_names_is_not_destroyed():
    world = two_replicas()
    keys = world.vault.keyring.files.tenant(TENANT)
    world.vault.keyring.files.put_tenant("globex", keys)
    with pytest.raises(PreconditionError, match="tenant globex's too"):
        rotate_kek(world.vault, TENANT, destroy_old=True)
    assert world.kms.state(keys.chosen.kek_id) is KekState.ACTIVE


def test_a_kms_that_unwraps_another_key_than_it_wrapped_is_caught_before_the_old_wrapping_goes():
    world = two_replicas()

    class Liar(FaultKms):
        def wrap(self, kek_id, dek, associated_data):
            return self._inner.wrap(kek_id, bytes(32), associated_data)

    with pytest.raises(KeyNotUsableError, match="unwraps another key"):
        rotate_kek(Vault(world.store, Liar(world.kms), world.clock), TENANT)
    all_open(world)


def test_a_tenant_without_a_key_has_none_to_rotate():
    with pytest.raises(NotFoundError, match="has no key yet"):
        rotate_kek(World().vault, TENANT)


def test_syncs_go_on_while_keys_are_rotated_by_another_process(tmp_path):
    kms = MemoryKms()
    with_serving, with_command = PosixStore(tmp_path), PosixStore(tmp_path)
    world = World(with_serving, kms)
    world.sync({spec(): {0: grain_bytes(1)}})
    command = Vault(with_command, kms, world.clock)
    over, failed = threading.Event(), []

    def rotate():
        try:
            while not over.is_set():
                rotate_kek(command, TENANT, destroy_old=True)
        except BaseException as error:
            failed.append(error)
            raise

    rotating = threading.Thread(target=rotate)
    rotating.start()
    try:
        for number in range(12):
            world.clock.advance(61)
            disks = {spec(kind=DELTA): {number: grain_bytes(number)}}
            if number % 3 == 0:
                disks[spec(OTHER_DISK + number)] = {1: grain_bytes(50 + number)}
            world.sync(disks, DELTA)
            world.vault.still(TENANT)
            assert world.differences(world.newest) == []
    finally:
        over.set()
        rotating.join()
    assert failed == []
    assert all(world.differences(number) == [] for number in range(1, 14))
    with_serving.close()
    with_command.close()


def test_a_rotated_dek_begins_a_chain_and_older_points_keep_theirs():
    world = two_replicas()
    old = world.dek()
    assert not world.vault.begins_chain(TENANT, REPLICA)
    assert world.vault.keyring.rotate_dek(TENANT, REPLICA) == {DISK: 2, OTHER_DISK: 2}
    assert world.vault.begins_chain(TENANT, REPLICA)
    assert not world.vault.begins_chain(TENANT, SECOND)
    for kind in (DELTA, SyncKind.COMPARE):
        with pytest.raises(PreconditionError, match="data key of disk 2000 was rotated"):
            world.begin([spec(kind=kind), spec(OTHER_DISK)], kind)
    world.sync({spec(): {0: grain_bytes(7)}, spec(OTHER_DISK): {3: grain_bytes(8)}})
    assert not world.vault.begins_chain(TENANT, REPLICA)
    assert world.dek(epoch=2) != old == world.dek(epoch=1)
    world.sync({spec(kind=DELTA): {9: grain_bytes(9)}}, DELTA)
    anew(world)
    assert [world.differences(point) for point in (1, 2, 3, 4)] == [[], [], [], []]
    assert world.vault.verify(TENANT, REPLICA, with_key=True).findings == ()
    assert rotate_kek(world.vault, TENANT, destroy_old=True).wrapped == 5
    anew(world)
    assert [world.differences(point) for point in (1, 2, 3, 4)] == [[], [], [], []]


def test_a_sync_that_began_before_ends_with_its_key():
    world = two_replicas()
    staged = world.begin([spec(kind=DELTA)], DELTA)
    world.vault.keyring.rotate_dek(TENANT, REPLICA)
    send(staged.disk(DISK), {1: grain_bytes(5)})
    done = staged.commit()
    world.note(done.number, {spec(kind=DELTA): {1: grain_bytes(5)}})
    assert world.differences(3) == []
    assert world.vault.begins_chain(TENANT, REPLICA)


def test_nothing_is_built_on_a_forged_record_although_its_key_was_rotated():
    world = two_replicas()
    world.vault.keyring.rotate_dek(TENANT, REPLICA)
    path = f"tenants/{TENANT}/replicas/{REPLICA}/points/000002/point.json"
    members = selfcheck.decode(bytes(world.store.content(path)))
    members["record"]["vm_name"] = "forged"
    world.store.content(path)[:] = selfcheck.encode(members)
    with pytest.raises(DamagedError, match="not authentic"):
        world.begin([spec(), spec(OTHER_DISK)])


def test_status_counts_wraps_and_days_and_says_what_is_due():
    world = two_replicas()
    status = key_status(world.vault, TENANT, world.clock)
    assert (status.state, status.wraps, status.epochs, status.age_days, status.days_left) == ("active", 3, 3, 0, 730)
    assert status.advice is None
    world.clock.advance(730 * 86400)
    assert "in use for 730 days" in key_status(world.vault, TENANT, world.clock).advice
    rotate_kek(world.vault, TENANT)
    status = key_status(world.vault, TENANT, world.clock)
    assert (status.age_days, status.wraps, status.advice, len(status.retired)) == (0, 3, None, 1)
    files = world.vault.keyring.files
    files.put_tenant(TENANT, replace(files.tenant(TENANT), wraps=MOST_WRAPS))
    assert "too many for one" in key_status(world.vault, TENANT, world.clock).advice


def test_status_of_files_that_an_older_release_wrote():
    world = two_replicas()
    kek = world.vault.keyring.keks.known_id(TENANT)
    small_file.replace(world.store, names.tenant_folder(TENANT), names.TENANT_FILE, {"tenant": TENANT, "kek_id": kek})
    status = key_status(world.vault, TENANT, world.clock)
    assert (status.age_days, status.days_left, status.wraps, status.state) == (None, None, 3, "active")
    world.sync({spec(kind=DELTA): {}, spec(DISK + 5): {}}, DELTA)
    assert key_status(world.vault, TENANT, world.clock).wraps == 4
    rotate_kek(world.vault, TENANT, destroy_old=True)
    all_open(world)

"""For how long a data key is kept, and a KMS's last word counts."""

import threading

import pytest

from common.errors import KeyNotUsableError, KmsUnavailableError
from common.ids import ReplicaId
from target_appliance.kms.memory import MemoryKms
from target_appliance.kms.port import KekState
from target_appliance.recovery.key_cache import RETRY_SECONDS, Confirmations
from target_appliance.recovery.keyring import ASK_SECONDS
from target_appliance.recovery.types import SyncKind
from target_appliance.recovery.vault import Vault
from tests.fakes.clock import ManualClock
from tests.fakes.replica import DISK, REPLICA, TENANT, World, grain_bytes, spec
from tests.faults.kms import FaultKms, KmsTrap

KEEP = 900.0


@pytest.fixture
def trap():
    return KmsTrap()


@pytest.fixture
def world(trap):
    world = World(kms=FaultKms(MemoryKms(), trap))
    world.sync({spec(): {0: grain_bytes(1)}})
    trap.calls.clear()
    return world


def kek(world):
    return world.vault.keyring.keks.known_id(TENANT)


def test_a_key_that_is_kept_is_not_unwrapped_again_but_asked_about(world, trap):
    assert world.differences(1) == []
    assert world.differences(1) == []
    assert trap.calls == ["state", "state"]
    world.clock.advance(KEEP)
    world.vault.wipe_old_keys()
    assert world.differences(1) == []
    assert trap.calls == ["state", "state", "unwrap"]


def test_a_key_whose_time_is_over_is_not_used_even_before_it_is_wiped(world, trap):
    world.clock.advance(KEEP)
    trap.failing = True
    with pytest.raises(KmsUnavailableError):
        world.read(1)


def test_reads_go_on_while_the_kms_is_silent_as_long_as_the_key_is_kept(world, trap):
    trap.failing = True
    world.clock.advance(KEEP - 1)
    assert world.differences(1) == []
    assert world.differences(1) == []
    assert trap.calls == ["state"], "a KMS that does not answer is not asked again at once"
    world.clock.advance(1)
    with pytest.raises(KmsUnavailableError):
        world.read(1)
    trap.failing = False
    assert world.differences(1) == []


def test_new_syncs_are_refused_at_once_while_the_kms_is_silent(world, trap):
    trap.failing = True
    with pytest.raises(KmsUnavailableError):
        world.begin([spec(kind=SyncKind.DELTA)], SyncKind.DELTA)
    assert trap.calls == ["state"]


def test_a_key_that_is_taken_back_is_not_read_with_although_it_is_kept(world):
    world.kms._inner.set_state(kek(world), KekState.DEACTIVATED)
    with pytest.raises(KeyNotUsableError, match="deactivated"):
        world.read(1)
    world.kms._inner.set_state(kek(world), KekState.ACTIVE)
    assert world.differences(1) == []


def test_an_altered_wrapping_is_another_one(world, trap):
    entries = world.vault.keyring.files.entries(TENANT, REPLICA)
    other = ReplicaId("4c4c4544-0051-3010-8052-b4c04f564232")
    world.vault.keyring.files.put_entries(TENANT, other, entries)
    with pytest.raises(KeyNotUsableError, match="does not authenticate"):
        world.vault.keyring.open(TENANT, other, DISK, 1)


def test_a_running_sync_asks_once_a_minute_and_ends_when_the_key_is_taken_back(world, trap):
    world.vault.require_key(TENANT)
    trap.calls.clear()
    for _ in range(10):
        world.vault.still(TENANT)
    assert trap.calls == []
    world.clock.advance(ASK_SECONDS)
    for _ in range(10):
        world.vault.still(TENANT)
    assert trap.calls == ["state"]
    world.kms._inner.set_state(kek(world), KekState.COMPROMISED)
    world.clock.advance(ASK_SECONDS)
    for _ in range(2):
        with pytest.raises(KeyNotUsableError, match="compromised"):
            world.vault.still(TENANT)


def test_a_running_sync_goes_on_without_the_kms_for_no_longer_than_keys_are_kept(world, trap):
    world.vault.require_key(TENANT)
    trap.failing = True
    for _ in range(14):
        world.clock.advance(ASK_SECONDS)
        world.vault.still(TENANT)
    world.clock.advance(ASK_SECONDS)
    with pytest.raises(KmsUnavailableError):
        world.vault.still(TENANT)
    trap.failing = False
    world.vault.still(TENANT)


def test_the_setting_is_what_counts(trap):
    world = World(kms=FaultKms(MemoryKms(), trap))
    world.vault = Vault(world.store, world.kms, world.clock, keep_seconds=30)
    world.sync({spec(): {0: grain_bytes(1)}})
    trap.failing = True
    world.clock.advance(29)
    assert world.differences(1) == []
    world.clock.advance(1)
    with pytest.raises(KmsUnavailableError):
        world.read(1)


def test_while_one_asks_the_others_go_on():
    clock = ManualClock()
    confirmed = Confirmations(clock, KEEP)
    confirmed.note("k")
    clock.advance(ASK_SECONDS)
    asked, answer = threading.Event(), threading.Event()

    def ask():
        asked.set()
        assert answer.wait(60)

    one = threading.Thread(target=confirmed.require, args=("k", ask, ASK_SECONDS))
    one.start()
    assert asked.wait(60)
    confirmed.require("k", pytest.fail, ASK_SECONDS)
    answer.set()
    one.join()
    confirmed.require("k", pytest.fail, ASK_SECONDS)


def test_who_was_never_confirmed_is_asked_about_and_refused():
    confirmed = Confirmations(ManualClock(), KEEP)

    def silent():
        raise KmsUnavailableError("silence", subject="kms", next_step="wait")

    with pytest.raises(KmsUnavailableError):
        confirmed.require("k", silent, 0.0)
    assert RETRY_SECONDS < KEEP

import dataclasses

import pytest

from common.errors import AlreadyExistsError, DamagedError, KeyNotUsableError, KmsUnavailableError
from common.ids import TenantId
from target_appliance.kms.directory import KmsDirectory
from target_appliance.kms.memory import MemoryKms
from target_appliance.kms.port import KekState
from target_appliance.recovery import names, small_file
from target_appliance.recovery.keyring import ChosenKek, Keyring
from target_appliance.recovery.vault import Vault
from target_appliance.store.memory import MemoryStore
from tests.fakes.clock import ManualClock
from tests.fakes.replica import DISK, REPLICA, World, grain_bytes, spec
from tests.faults.kms import FaultKms

ACME, GLOBEX = TenantId("acme"), TenantId("globex")


class Site:
    """Two KMSs that know nothing of each other, and a store."""

    def __init__(self):
        self.default, self.hsm = FaultKms(MemoryKms()), FaultKms(MemoryKms())
        self.store = MemoryStore()

    @property
    def keyring(self):
        return Keyring(self.store, KmsDirectory(self.default, {"hsm": self.hsm}))

    def world(self, directory=None):
        directory = directory or KmsDirectory(self.default, {"hsm": self.hsm})
        clock = ManualClock()
        return World(self.store, directory, clock, Vault(self.store, directory, clock))


@pytest.fixture
def site():
    return Site()


def test_each_tenant_is_served_by_its_own_kms_alone(site):
    kek = site.keyring.keks.choose(ACME, "hsm")
    other = site.keyring.require(GLOBEX)
    assert (site.hsm.state(kek), site.default.state(kek)) == (KekState.ACTIVE, KekState.ABSENT)
    assert site.default.state(other) is KekState.ACTIVE
    assert site.keyring.keks.chosen(ACME) == ChosenKek("hsm", kek)
    assert site.keyring.keks.chosen(GLOBEX) == ChosenKek(None, other)

    site.default.trap.failing = True
    dek = site.keyring.ensure(ACME, REPLICA, [DISK])[DISK]
    assert site.keyring.open(ACME, REPLICA, DISK, 1) == dek
    assert site.keyring.may_unwrap(ACME, REPLICA, DISK, 1)
    with pytest.raises(KmsUnavailableError):
        site.keyring.require(GLOBEX)
    site.default.trap.failing, site.hsm.trap.failing = False, True
    site.keyring.require(GLOBEX)
    for use in (lambda: site.keyring.require(ACME), lambda: site.keyring.open(ACME, REPLICA, DISK, 1)):
        with pytest.raises(KmsUnavailableError):
            use()


def test_points_under_a_named_kms_read_back_and_say_where_their_keys_lie(site):
    site.keyring.keks.choose(ACME, "hsm")
    world = site.world()
    world.sync({spec(): {0: grain_bytes(1)}})
    assert world.differences(1) == []
    (entry,) = small_file.read(site.store, f"{names.replica_folder(ACME, REPLICA)}/{names.REPLICA_FILE}")["keys"]
    assert entry["kms"] == "hsm"


def test_a_kms_that_the_configuration_lacks_is_named_and_nothing_stands_in(site):
    site.keyring.keks.choose(ACME, "hsm")
    site.world().sync({spec(): {0: grain_bytes(1)}})
    poorer = site.world(KmsDirectory(site.default))
    asked = len(site.default.trap.calls)
    uses = (
        lambda: poorer.vault.require_key(ACME),
        lambda: list(poorer.vault.manifest(ACME, REPLICA, DISK)),
        lambda: poorer.begin([spec()]),
    )
    for use in uses:
        with pytest.raises(KeyNotUsableError, match="the KMS hsm, which this appliance's configuration does not name"):
            use()
    assert len(site.default.trap.calls) == asked


def test_the_default_kms_leaves_no_trace_in_the_files(site):
    site.keyring.require(ACME)
    site.keyring.ensure(ACME, REPLICA, [DISK])
    (entry,) = small_file.read(site.store, f"{names.replica_folder(ACME, REPLICA)}/{names.REPLICA_FILE}")["keys"]
    assert "kms" not in entry
    assert "kms" not in small_file.read(site.store, f"{names.tenant_folder(ACME)}/{names.TENANT_FILE}")


def test_a_key_that_is_there_already_is_taken_after_a_test(site):
    kek = site.hsm.create_kek(ACME)
    site.hsm.trap.calls.clear()
    assert site.keyring.keks.choose(ACME, "hsm", kek) == kek
    assert site.hsm.trap.calls == ["wrap", "unwrap", "unwrap", "wrap"]  # a test, then the proof
    assert site.keyring.require(ACME) == kek


def test_a_key_that_is_not_active_or_not_there_is_not_taken(site):
    kek = site.hsm.create_kek(ACME)
    site.hsm._inner.set_state(kek, KekState.DEACTIVATED)
    for wanted, told in ((kek, "is deactivated"), ("nobody's", "does not exist")):
        with pytest.raises(KeyNotUsableError, match=told):
            site.keyring.keks.choose(ACME, "hsm", wanted)
    assert site.keyring.keks.chosen(ACME) is None


class Cheat(MemoryKms):
    """Binds to nothing."""

    def wrap(self, kek_id, dek, associated_data):
        return super().wrap(kek_id, dek, b"")

    def unwrap(self, wrapped, associated_data):
        return super().unwrap(wrapped, b"")


class Forgetful(MemoryKms):
    def unwrap(self, wrapped, associated_data):
        return bytes(32)


@pytest.mark.parametrize(
    ("kms", "told"), [(Cheat(), "although the associated data was altered"), (Forgetful(), "does not decrypt what it")]
)
def test_a_key_that_fails_its_test_is_not_taken(kms, told):
    keyring = Keyring(MemoryStore(), KmsDirectory(kms))
    with pytest.raises(KmsUnavailableError, match=told):
        keyring.keks.choose(ACME, None, kms.create_kek(ACME))
    assert keyring.keks.chosen(ACME) is None


def test_tenants_share_no_key(site):
    kek = site.keyring.keks.choose(ACME, "hsm")
    with pytest.raises(AlreadyExistsError, match=f"key {kek} is tenant acme's"):
        site.keyring.keks.choose(GLOBEX, "hsm", kek)
    assert site.keyring.keks.chosen(GLOBEX) is None


def test_what_was_chosen_stays(site):
    kek = site.keyring.keks.choose(ACME, "hsm")
    assert site.keyring.keks.choose(ACME, "hsm") == site.keyring.keks.choose(ACME, "hsm", kek) == kek
    for kms, wanted in ((None, None), ("hsm", site.hsm.create_kek(ACME))):
        with pytest.raises(AlreadyExistsError, match=f"has key {kek} at the KMS hsm already"):
            site.keyring.keks.choose(ACME, kms, wanted)
    site.keyring.require(GLOBEX)
    with pytest.raises(AlreadyExistsError, match="at the default KMS already"):
        site.keyring.keks.choose(GLOBEX, "hsm")


def test_a_tenant_with_replicas_whose_file_is_lost_gets_no_other_key(site):
    site.keyring.keks.choose(ACME, "hsm")
    site.keyring.ensure(ACME, REPLICA, [DISK])
    del site.store._files[("tenants", "acme", "tenant.json")]
    with pytest.raises(DamagedError, match="it is missing"):
        site.keyring.keks.choose(ACME, "hsm")


def test_it_probes_and_closes_each(site):
    directory = KmsDirectory(site.default, {"hsm": site.hsm})
    site.hsm.trap.failing = True
    probes = directory.probes()
    assert list(probes) == ["kms", "kms/hsm"]
    assert directory.named_probes == ("kms/hsm",)
    probes["kms"]()
    with pytest.raises(KmsUnavailableError):
        probes["kms/hsm"]()
    closed = []
    site.default.close, site.hsm.close = lambda: closed.append("default"), lambda: closed.append("hsm")
    directory.close()
    assert closed == ["default", "hsm"]


class Counting(MemoryKms):
    """Counts versions of its keys, as Transit does."""

    def wrap(self, kek_id, dek, associated_data):
        return dataclasses.replace(super().wrap(kek_id, dek, associated_data), key_version=7)

    def unwrap(self, wrapped, associated_data):
        assert wrapped.key_version == 7
        return super().unwrap(wrapped, associated_data)


def test_the_version_of_a_key_comes_back_to_the_server_that_counts_them():
    store = MemoryStore()
    keyring = Keyring(store, Counting())
    keyring.require(ACME)
    dek = keyring.ensure(ACME, REPLICA, [DISK])[DISK]
    assert keyring.open(ACME, REPLICA, DISK, 1) == dek
    (entry,) = small_file.read(store, f"{names.replica_folder(ACME, REPLICA)}/{names.REPLICA_FILE}")["keys"]
    assert entry["key_version"] == 7

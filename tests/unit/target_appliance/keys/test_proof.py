"""Whose a KEK is: who writes to the store cannot have one tenant's key used, or destroyed, for another."""

from dataclasses import replace

import pytest

from common.errors import DamagedError, KeyNotUsableError, PreconditionError
from common.ids import ReplicaId, TenantId, new_sync_id
from target_appliance.keys.rotate import destroy_retired, rotate_kek
from target_appliance.kms.port import KekState
from target_appliance.recovery import names, small_file
from target_appliance.recovery.key_files import ChosenKek
from target_appliance.recovery.types import SyncKind
from target_appliance.recovery.vault import Vault
from tests.fakes.replica import DISK, REPLICA, TENANT, World, grain_bytes, header, send, spec

OTHER = TenantId("globex")
SECOND = ReplicaId("4c4c4544-0051-3010-8052-b4c04f564232")


class Stage:
    """Two tenants; the store's writer is about to act, and each process after that sees only what lies there."""

    def __init__(self) -> None:
        self.world = World()
        self.world.sync({spec(): {0: grain_bytes(1)}})
        self.begin(OTHER, REPLICA)

    @property
    def vault(self) -> Vault:
        return Vault(self.world.store, self.world.kms, self.world.clock)

    def begin(self, tenant: TenantId, replica: ReplicaId) -> None:
        staged = self.vault.syncs.begin(tenant, replica, new_sync_id(), header([spec()], 0))
        send(staged.disk(DISK), {0: grain_bytes(9)})
        staged.commit()

    def kek(self, tenant: TenantId) -> ChosenKek:
        chosen = self.vault.keyring.keks.chosen(tenant)
        assert chosen is not None
        return chosen

    def write(self, kek: ChosenKek, *retired: ChosenKek) -> None:
        """``tenant.json`` of TENANT, made by somebody who knows the format but can ask no KMS."""
        keys = self.vault.keyring.files.tenant(TENANT)
        assert keys is not None
        self.vault.keyring.files.put_tenant(TENANT, replace(keys, chosen=kek, retired=retired))


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.mark.parametrize("proof", ["the other tenant's", "none", "this tenant's, of another key"])
def test_another_tenants_key_is_not_used(stage: Stage, proof: str) -> None:
    own, others = stage.kek(TENANT), stage.kek(OTHER)
    assert own.proof is not None
    forged = {
        "the other tenant's": others,
        "none": replace(others, proof=None),
        "this tenant's, of another key": replace(others, proof=replace(own.proof, kek_id=others.kek_id)),
    }[proof]
    stage.write(forged)
    with pytest.raises(KeyNotUsableError, match=f"nothing shows that key {others.kek_id}.*rotate-kek {TENANT}"):
        stage.begin(TENANT, SECOND)
    with pytest.raises(KeyNotUsableError, match="nothing shows"):
        stage.vault.keyring.rewrap(TENANT, REPLICA)
    with pytest.raises(KeyNotUsableError, match="nothing shows"):
        stage.vault.keyring.rotate_dek(TENANT, REPLICA)
    assert set(stage.vault.keyring.files.wrapped_under(TENANT)) == {own}
    stage.world.vault = stage.vault
    assert stage.world.differences(1, DISK) == []  # what is sealed names its own key, and opens


def test_a_rotation_mends_it_and_leaves_the_other_tenants_key_alone(stage: Stage) -> None:
    own, others = stage.kek(TENANT), stage.kek(OTHER)
    stage.write(others)
    done = rotate_kek(stage.vault, TENANT)
    assert (done.wrapped, done.went_on, done.retired) == (1, False, (own,))
    assert stage.kek(TENANT) not in (own, others)
    assert destroy_retired(stage.vault, TENANT) == (own,)
    stage.begin(TENANT, SECOND)
    assert stage.world.kms.state(others.kek_id) is KekState.ACTIVE


def test_another_tenants_key_is_not_destroyed_as_a_retired_one(stage: Stage) -> None:
    own, others = stage.kek(TENANT), stage.kek(OTHER)
    stage.write(own, others)
    stage.world.store.remove_tree(names.tenant_folder(OTHER))  # nothing names it any more but a copy elsewhere
    with pytest.raises(PreconditionError, match=f"nothing shows that key {others.kek_id} is tenant {TENANT}'s"):
        destroy_retired(stage.vault, TENANT)
    assert stage.world.kms.state(others.kek_id) is KekState.ACTIVE


def test_a_key_that_was_taken_back_stays_the_tenants_to_destroy(stage: Stage) -> None:
    own = stage.kek(TENANT)
    stage.world.kms.set_state(own.kek_id, KekState.DEACTIVATED)
    with pytest.raises(KeyNotUsableError):
        rotate_kek(stage.vault, TENANT)
    stage.world.kms.set_state(own.kek_id, KekState.ACTIVE)
    assert rotate_kek(stage.vault, TENANT, destroy_old=True).destroyed == (own,)


def test_a_key_that_an_older_release_chose_is_shown_by_what_it_wraps(stage: Stage) -> None:
    old = replace(stage.kek(TENANT), proof=None)
    stage.write(old)
    stage.begin(TENANT, SECOND)
    assert rotate_kek(stage.vault, TENANT).retired == (old,)
    assert destroy_retired(stage.vault, TENANT) == (old,)  # by a process that finds nothing wrapped under it any more


def test_a_key_that_wraps_nothing_needs_its_proof(stage: Stage) -> None:
    stage.vault.keyring.require(TenantId("initech"))
    path = (names.tenant_folder(TenantId("initech")), names.TENANT_FILE)
    members = small_file.read(stage.world.store, "/".join(path))
    stage.vault.keyring.require(TenantId("initech"))
    small_file.replace(stage.world.store, *path, {name: members[name] for name in ("tenant", "kek_id")})
    with pytest.raises(KeyNotUsableError, match="nothing shows"):
        stage.vault.keyring.require(TenantId("initech"))
    small_file.replace(stage.world.store, *path, {**members, "proof": {"nonce": "00"}})
    with pytest.raises(DamagedError):
        stage.vault.keyring.require(TenantId("initech"))


def test_a_sync_goes_on_under_the_key_that_was_shown(stage: Stage) -> None:
    stage.world.sync({spec(kind=SyncKind.DELTA): {2: grain_bytes(3)}}, SyncKind.DELTA)
    stage.world.vault = stage.vault
    assert stage.world.differences(2, DISK) == []

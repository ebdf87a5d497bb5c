"""A seed becomes point 1 as a whole, or leaves nothing; and never where there is something."""

import contextlib

import pytest

from common.errors import (
    BusyError,
    FencedError,
    InvalidInputError,
    KeyNotUsableError,
    NotFoundError,
    PreconditionError,
)
from common.ids import AgentId, TenantId, new_sync_id
from target_appliance.catalog.catalog import Catalog
from target_appliance.kms.memory import MemoryKms
from target_appliance.kms.port import KekState
from target_appliance.recovery.staging import COMMIT_STEPS, POINTS_SYNCED, RENAMED
from target_appliance.recovery.types import SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.seed.image import open_image
from target_appliance.seed.importer import Seed, import_seed
from target_appliance.store.posix import PosixStore
from tests.fakes.clock import ManualClock
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT
from tests.faults.store import FaultStore, Killed, Trap, killed
from tests.unit.target_appliance.seed.disks import convert, first_grain, write_raw

AGENT = AgentId("11111111-1111-4111-8111-111111111111")
SIZE = (3 << 20) + 3 * 512


class Site:
    """An appliance at rest with one tenant, and images for two disks."""

    def __init__(self, folder, life):
        self.folder = folder
        self.clock = ManualClock()
        self.kms = MemoryKms()
        self.store = PosixStore(folder / "store")
        life.callback(self.store.close)
        self.catalog = life.enter_context(Catalog.open(f"sqlite:///{folder / 'catalog.sqlite'}", self.clock))
        self.catalog.add_tenant(TENANT)
        self.vault = Vault(self.store, self.kms, self.clock)
        self.content = {
            DISK: write_raw(folder / "a.raw", SIZE),
            OTHER_DISK: write_raw(folder / "b.raw", 1 << 20, seed=5),
        }
        self.paths = {
            DISK: folder / "a.raw",
            OTHER_DISK: convert(folder / "b.raw", folder / "b.vmdk", "streamOptimized"),
        }

    def seed(self, vault=None, progress=lambda _: None, tenant=TENANT):
        with contextlib.ExitStack() as images:
            opened = {key: images.enter_context(open_image(path)) for key, path in self.paths.items()}
            seed = Seed(tenant, REPLICA, "web01", opened)
            return import_seed(vault or self.vault, self.catalog, self.clock, seed, progress)

    def read(self, key):
        with self.vault.view(TENANT, REPLICA, key, 1) as view:
            grains = view.read(0, view.grains)
            return b"".join(data or bytes(65536) for data in grains)[: view.capacity_bytes]

    def forget(self):
        self.store.remove_tree(f"tenants/{TENANT}/replicas/{REPLICA}")
        self.catalog.rebuild(self.vault)

    def assert_nothing_is_left(self):
        assert self.vault.point_numbers(TENANT, REPLICA) == ()
        assert self.vault.syncs.sweep(TENANT, REPLICA) == ()
        assert self.catalog.live_syncs() == frozenset()
        assert self.catalog.replicas() == ()


@pytest.fixture
def site(tmp_path):
    (tmp_path / "store").mkdir()
    with contextlib.ExitStack() as life:
        yield Site(tmp_path, life)


def test_the_images_are_point_1_and_nothing_is_known_of_their_tracking(site):
    passed = []
    made = site.seed(progress=passed.append)
    record = site.vault.newest(TENANT, REPLICA)

    assert (made.number, record.number, record.kind, record.record_hash) == (1, 1, SyncKind.FULL, made.record_hash)
    assert record.snapshot_time == max(int(path.stat().st_mtime) for path in site.paths.values())
    for disk in record.disks:
        assert (disk.spec.uuid, disk.spec.change_id, disk.spec.backing_path) == ("", "", "")
        assert site.read(disk.spec.key) == site.content[disk.spec.key]
    assert (sum(passed), min(passed) >= 0) == (SIZE + (1 << 20), True)
    assert site.vault.verify(TENANT, REPLICA, with_key=True).findings == ()
    (row,) = site.catalog.replicas()
    assert (row.vm_name, row.newest, row.stored_bytes) == ("web01", 1, made.stored_bytes)
    assert site.catalog.live_syncs() == frozenset()


def test_a_replica_that_has_points_takes_no_seed(site):
    site.seed()
    with pytest.raises(PreconditionError, match="has points already, the newest is 1"):
        site.seed()
    assert site.vault.point_numbers(TENANT, REPLICA) == (1,)


def test_an_unknown_tenant_gets_no_seed_and_no_key(site):
    with pytest.raises(NotFoundError, match="no tenant globex"):
        site.seed(tenant=TenantId("globex"))
    assert site.vault.tenants() == ()


def test_nothing_is_accepted_while_the_key_is_not_active(site):
    site.kms.set_state(site.vault.require_key(TENANT), KekState.DEACTIVATED)
    with pytest.raises(KeyNotUsableError):
        site.seed()
    site.assert_nothing_is_left()


def test_an_agent_that_writes_the_replica_is_not_disturbed(site):
    lease = site.catalog.take_lease(TENANT, REPLICA, AGENT, new_sync_id(), 60)
    with pytest.raises(BusyError, match=f"agent {AGENT} is writing"):
        site.seed()
    site.catalog.check(lease)


def test_a_long_import_keeps_its_lease(site):
    """One step of progress takes longer than half of it, all together several times as long."""
    site.seed(progress=lambda _: site.clock.advance(40))
    assert site.vault.point_numbers(TENANT, REPLICA) == (1,)


def test_an_import_that_lost_its_lease_commits_nothing(site):
    taken = []

    def stall(_):
        if not taken:
            site.clock.advance(61)
            taken.append(site.catalog.take_lease(TENANT, REPLICA, AGENT, new_sync_id(), 60))

    with pytest.raises(FencedError):
        site.seed(progress=stall)
    site.catalog.check(taken[0])
    site.catalog.release(taken[0])
    site.assert_nothing_is_left()


def test_an_image_that_cannot_be_read_leaves_nothing(site):
    path = site.paths[OTHER_DISK]
    data = bytearray(path.read_bytes())
    at = first_grain(path)
    data[at : at + 4] = b"junk"
    path.write_bytes(data)
    with pytest.raises(InvalidInputError, match="of its grain"):
        site.seed()
    site.assert_nothing_is_left()


class Ended(BaseException):
    """The import ends here."""


@pytest.mark.parametrize("step", COMMIT_STEPS)
def test_it_ends_at_a_step_of_the_commit(site, step):
    def fail(done):
        if done == step:
            raise Ended

    with pytest.raises(Ended):
        site.seed(Vault(site.store, site.kms, site.clock, fail))
    if step in {RENAMED, POINTS_SYNCED}:
        assert site.vault.point_numbers(TENANT, REPLICA) == (1,)
        site.catalog.reconcile(site.vault)
        assert [row.newest for row in site.catalog.replicas()] == [1]
    else:
        site.assert_nothing_is_left()
        assert site.seed().number == 1
    assert site.read(DISK) == site.content[DISK]


def test_killed_at_many_calls_of_the_store(site):
    """Nothing shows, or the point as a whole; the next import sweeps, once the dead one's lease has lapsed."""
    site.seed()  # makes the tenant's key, once
    site.forget()
    counted = Trap()
    site.seed(Vault(FaultStore(site.store, counted), site.kms, site.clock))
    site.forget()
    for at in range(1, len(counted.calls) + 1, 4):
        trap = Trap(at=at, error=killed, for_good=True)
        with pytest.raises(Killed):
            site.seed(Vault(FaultStore(site.store, trap), site.kms, site.clock))
        site.clock.advance(61)
        if not site.vault.point_numbers(TENANT, REPLICA):
            assert site.seed().number == 1
        assert site.read(DISK) == site.content[DISK]
        assert site.vault.verify(TENANT, REPLICA, with_key=True).findings == ()
        assert site.vault.syncs.sweep(TENANT, REPLICA) == ()
        site.forget()

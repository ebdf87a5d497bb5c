"""Key files that were lost or forged are never papered over with new keys."""

import pytest

from common.errors import DamagedError, KeyNotUsableError
from common.ids import DiskKey
from target_appliance.recovery.keyring import Keyring
from target_appliance.recovery.types import SyncKind
from target_appliance.seal import selfcheck
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT, World, grain_bytes, spec

REPLICA_FILE = f"tenants/{TENANT}/replicas/{REPLICA}/replica.json"
TENANT_FILE = f"tenants/{TENANT}/tenant.json"


@pytest.fixture
def world():
    world = World()
    world.sync({spec(): {0: grain_bytes(1)}})
    return world


@pytest.mark.parametrize("kind", list(SyncKind))
def test_a_lost_key_file_is_not_made_anew(world, kind):
    kept = world.store._files.pop(tuple(REPLICA_FILE.split("/")))

    for disks in ([spec(kind=kind)], [spec(OTHER_DISK)]):
        with pytest.raises(KeyNotUsableError, match="disk 2000, epoch 1"):
            world.begin(disks)
    assert tuple(REPLICA_FILE.split("/")) not in world.store._files
    world.store._files[tuple(REPLICA_FILE.split("/"))] = kept
    assert world.differences(1) == []


def test_a_lost_tenant_file_is_not_made_anew(world):
    del world.store._files[tuple(TENANT_FILE.split("/"))]

    with pytest.raises(DamagedError, match="the tenant has replicas"):
        world.begin([spec()])
    with pytest.raises(DamagedError, match="the tenant has replicas"):
        world.vault.require_key(TENANT)


def test_a_key_that_no_point_needs_may_be_lost(world):
    fresh = World()
    staged = fresh.begin([spec()])
    staged.discard()
    del fresh.store._files[tuple(REPLICA_FILE.split("/"))]

    fresh.sync({spec(): {0: grain_bytes(1)}})
    assert fresh.differences(1) == []


def test_a_second_disk_keeps_the_first_ones_key(world):
    before = world.dek()
    world.sync({spec(kind=SyncKind.DELTA): {}, spec(OTHER_DISK): {}}, SyncKind.DELTA)

    assert world.dek() == before
    assert world.dek(OTHER_DISK) != before
    assert Keyring(world.store, world.kms).epochs(TENANT, REPLICA) == ((DISK, 1), (OTHER_DISK, 1))


def forge(world, path, change):
    members = selfcheck.decode(bytes(world.store.content(path)))
    change(members)
    world.store.content(path)[:] = selfcheck.encode(members)


@pytest.mark.parametrize(
    "change",
    [
        lambda members: members.pop("keys"),
        lambda members: members.update(keys=None),
        lambda members: members.update(keys=["x"]),
        lambda members: members["keys"][0].pop("tag"),
        lambda members: members["keys"][0].update(nonce="not hex"),
        lambda members: members["keys"][0].update(nonce=7),
        lambda members: members["keys"][0].update(disk=-1),
        lambda members: members["keys"][0].update(epoch=None),
        lambda members: members.update(tenant="other"),
    ],
)
def test_key_files_that_cannot_be(world, change):
    forge(world, REPLICA_FILE, change)

    with pytest.raises(DamagedError):
        world.read(1)
    with pytest.raises(DamagedError):
        world.begin([spec()])
    for with_key in (False, True):
        report = world.vault.verify(TENANT, REPLICA, with_key=with_key)
        assert {finding.file for finding in report.findings} == {"replica.json"}


@pytest.mark.parametrize("change", [{"tenant": "other"}, {"kek_id": 7}])
def test_tenant_files_that_cannot_be(world, change):
    forge(world, TENANT_FILE, lambda members: members.update(change))

    with pytest.raises(DamagedError):
        world.vault.require_key(TENANT)


def test_an_epoch_that_is_not_there(world):
    keyring = Keyring(world.store, world.kms)
    for disk, epoch in [(DISK, 2), (DiskKey(9), 1)]:
        with pytest.raises(KeyNotUsableError):
            keyring.open(TENANT, REPLICA, disk, epoch)

"""The plan of a replica as it lies in the store."""

import pytest

from common.errors import DamagedError, InvalidInputError, NotFoundError
from common.ids import new_sync_id
from target_appliance.catalog.catalog import Catalog
from target_appliance.recovery import names, small_file
from target_appliance.recovery.types import SyncKind
from target_appliance.retention import settings
from target_appliance.retention.keeper import Keeper
from target_appliance.retention.plan import plan
from target_appliance.retention.policy import Policy
from target_appliance.retention.rules import Hold
from target_appliance.store.memory import MemoryStore
from tests.fakes.replica import OTHER_DISK, REPLICA, TENANT, World, grain_bytes, spec

HOLD = Hold("case-17", "court order")


@pytest.fixture
def world():
    """Five points a day apart; the first alone has a second disk."""
    world = World(store=MemoryStore())
    disk = spec(capacity_bytes=1 << 20)
    world.sync({disk: {0: grain_bytes(0)}, spec(OTHER_DISK, 1 << 20): {0: grain_bytes(9)}})
    for number in range(1, 5):
        world.clock.advance(86400)
        world.sync({spec(capacity_bytes=1 << 20, kind=SyncKind.DELTA): {number: grain_bytes(number)}}, SyncKind.DELTA)
    return world


def kept(world):
    return [one.number for one in plan(world.vault, TENANT, REPLICA).verdicts if one.kept]


def test_without_rules_all_is_kept(world):
    found = plan(world.vault, TENANT, REPLICA)

    assert (found.policy, found.whose, found.drops) == (None, "nobody", ())
    assert [record.number for record in found.records] == [1, 2, 3, 4, 5]


def test_a_replicas_rules_go_before_its_tenants(world):
    keeper = Keeper(world.vault)
    keeper.set_tenant(TENANT, Policy(last=4), None)
    assert (kept(world), plan(world.vault, TENANT, REPLICA).whose) == ([2, 3, 4, 5], "tenant")
    keeper.set_replica(TENANT, REPLICA, Policy(last=2))
    assert (kept(world), plan(world.vault, TENANT, REPLICA).whose) == ([4, 5], "replica")
    keeper.set_replica(TENANT, REPLICA, None)
    assert kept(world) == [2, 3, 4, 5]
    keeper.clear_tenant(TENANT)
    assert kept(world) == [1, 2, 3, 4, 5]


def test_locks_and_rules_of_a_tenant_are_set_apart(world):
    keeper = Keeper(world.vault)
    assert keeper.set_tenant(TENANT, None, 30) == settings.OfTenant(None, 30)
    assert keeper.set_tenant(TENANT, Policy(last=4), None) == settings.OfTenant(Policy(last=4), 30)
    assert keeper.clear_tenant(TENANT) == settings.OfTenant(None, 30)
    for days in (-1, settings.MOST_LOCK_DAYS + 1):
        with pytest.raises(InvalidInputError):
            keeper.set_tenant(TENANT, None, days)


def test_a_hold_survives_rules_and_a_catalog_that_is_made_again(world, tmp_path):
    keeper = Keeper(world.vault)
    keeper.hold(TENANT, REPLICA, 2, HOLD)
    keeper.set_tenant(TENANT, Policy(last=1), None)
    keeper.set_replica(TENANT, REPLICA, Policy(last=1))
    with Catalog.open(f"sqlite:///{tmp_path}/catalog.sqlite", world.clock) as catalog:
        catalog.rebuild(world.vault)
    assert kept(world) == [2, 5]
    keeper.hold(TENANT, REPLICA, 2, Hold("audit", "close"))
    keeper.release(TENANT, REPLICA, 2, HOLD.name)
    assert kept(world) == [2, 5]
    keeper.release(TENANT, REPLICA, 2, "audit")
    assert kept(world) == [5]


def test_a_hold_needs_a_point_a_name_and_a_reason(world):
    keeper = Keeper(world.vault)
    with pytest.raises(NotFoundError):
        keeper.hold(TENANT, REPLICA, 77, HOLD)
    for hold in (Hold("", "x"), Hold("x", ""), Hold("x" * 65, "x"), Hold("x", "x" * 257), Hold("x", "\x1b[2J")):
        with pytest.raises(InvalidInputError):
            keeper.hold(TENANT, REPLICA, 2, hold)
    with pytest.raises(NotFoundError, match="not held"):
        keeper.release(TENANT, REPLICA, 2, "x")


@pytest.mark.parametrize("folder", [names.tenant_folder(TENANT), names.replica_folder(TENANT, REPLICA)])
@pytest.mark.parametrize(
    "members",
    [
        {},
        {"policy": {"last": 0}, "holds": [], "lock_days": 0},
        {"policy": None, "holds": [{"point": -1, "name": "x", "reason": "x"}], "lock_days": "9"},
        {"policy": None, "holds": 3, "lock_days": True},
    ],
)
def test_settings_that_are_damaged_drop_nothing(world, folder, members):
    Keeper(world.vault).set_tenant(TENANT, Policy(last=1), None)
    Keeper(world.vault).set_replica(TENANT, REPLICA, Policy(last=1))
    small_file.replace(world.store, folder, settings.FILE, members)

    with pytest.raises(DamagedError, match=r"retention\.json"):
        plan(world.vault, TENANT, REPLICA)


def test_a_point_whose_record_is_damaged_is_kept_and_named(world):
    Keeper(world.vault).set_tenant(TENANT, Policy(last=1), None)
    folder = names.point_folder(TENANT, REPLICA, 2)
    world.store._files[tuple(f"{folder}/point.json".split("/"))][40] ^= 1
    found = plan(world.vault, TENANT, REPLICA)

    assert set(found.damaged) == {2}
    assert [one.number for one in found.drops] == [1, 3, 4]


def test_what_a_sync_under_way_may_stand_on_is_kept(world):
    Keeper(world.vault).set_tenant(TENANT, Policy(last=1), None)
    staged = world.begin([spec(capacity_bytes=1 << 20, kind=SyncKind.DELTA)], SyncKind.DELTA, new_sync_id())
    assert kept(world) == [1, 5]
    staged.discard()
    assert kept(world) == [5]


def test_points_of_the_last_day_and_empty_ones_are_counted(world):
    for _ in range(3):
        world.sync({spec(capacity_bytes=1 << 20, kind=SyncKind.DELTA): {}}, SyncKind.DELTA)

    assert plan(world.vault, TENANT, REPLICA).last_day == (4, 3)

"""A point's lock and its time, in the record: set once, for good, and vouched for by every disk's key."""

import dataclasses

import pytest

from common.errors import DamagedError
from target_appliance.recovery import names, points, record_file, small_file
from target_appliance.recovery.types import SyncKind
from target_appliance.retention import settings
from target_appliance.store.posix import PosixStore
from tests.fakes.replica import DISK, REPLICA, TENANT, World, grain_bytes, spec
from tests.second_reader.reader import Replica

YEARS = 10 * 365 * 86400
DAY = 86400


def lock(world, days):
    world.store.make_folder(names.tenant_folder(TENANT))
    settings.put_tenant(world.store, TENANT, settings.OfTenant(lock_days=days))


def sync(world, kind=SyncKind.FULL):
    number = world.sync({spec(capacity_bytes=1 << 20, kind=kind): {1: grain_bytes(world.newest)}}, kind).number
    return world.vault.point(TENANT, REPLICA, number)


def test_a_record_without_a_lock_says_nothing_of_it():
    members = record_file._body(sync(World()))

    assert {"locked_until", "counted_time"} & members.keys() == set()


def test_a_lock_is_counted_from_the_commit_and_later_settings_change_later_points():
    world = World()
    for days, expected in ((30, 30 * DAY), (7, 7 * DAY), (0, None)):
        lock(world, days)
        record = sync(world)
        assert record.locked_until == (expected and record.commit_time + expected)
    assert world.vault.point(TENANT, REPLICA, 1).locked_until == record.commit_time + 30 * DAY


@pytest.mark.parametrize("member", ["locked_until", "counted_time"])
@pytest.mark.parametrize("value", [0, None, 1_700_000_000])
def test_an_altered_time_is_not_authentic(member, value):
    world = World()
    lock(world, 30)
    world.vault.time.now()
    world.clock.jump(YEARS)
    sync(world)
    record, macs = points.read_point(world.store, TENANT, REPLICA, 1)
    key = world.vault.keyring.open(TENANT, REPLICA, DISK, 1)
    points.check_mac(record, macs, key)

    with pytest.raises(DamagedError, match="not authentic"):
        points.check_mac(dataclasses.replace(record, **{member: value}), macs, key)


@pytest.mark.parametrize("found", ["1", 1.5, True, None, [1]])
def test_a_time_of_another_kind_is_no_record(found):
    world = World()
    record = sync(world)
    key = world.vault.keyring.open(TENANT, REPLICA, DISK, 1)
    members = record_file.to_members(record, {DISK: key})
    members["record"]["locked_until"] = found

    with pytest.raises(ValueError, match=r"\w"):
        record_file.from_members(members)


@pytest.mark.parametrize("years", [YEARS, -YEARS])
def test_a_clock_that_was_set_shows_in_the_record_and_does_not_shorten_a_lock(years):
    world = World()
    lock(world, 30)
    first = sync(world)
    world.clock.jump(years)
    world.clock.advance(3600)
    second = sync(world)

    assert second.commit_time - first.commit_time == years + 3600
    assert 0 <= second.retention_time - first.retention_time <= 3600 + DAY
    assert 0 <= second.locked_until - first.locked_until <= 3600 + DAY


def test_a_small_step_of_the_clock_does_not_stand_in_records():
    world = World()
    sync(world)
    world.clock.jump(-30)

    assert sync(world).counted_time is None


def test_the_second_reader_reads_a_locked_point(tmp_path):
    store = PosixStore(tmp_path)
    world = World(store=store)
    lock(world, 30)
    sync(world)
    found = Replica(tmp_path / names.replica_folder(TENANT, REPLICA)).grains(1, DISK, world.dek())
    assert dict(found)[1] == grain_bytes(0)


def test_nothing_is_begun_while_nobody_can_say_for_how_long_to_lock_it():
    world = World()
    lock(world, 30)
    folder = names.tenant_folder(TENANT)
    small_file.replace(world.store, folder, settings.FILE, {"policy": None, "lock_days": -1})

    with pytest.raises(DamagedError, match=r"retention\.json"):
        world.begin([spec()])

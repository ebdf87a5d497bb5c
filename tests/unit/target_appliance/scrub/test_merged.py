"""The scrub of a replica whose points are dropped and merged: damage is found there too, and a merge is none."""

import pytest

from common.errors import BusyError
from target_appliance.recovery import names
from target_appliance.recovery.reading import alone
from tests.fakes.replica import REPLICA, TENANT
from tests.faults.merge_world import check_kept
from tests.unit.target_appliance.scrub.test_scrubber import Paused, content, cut_after, flipped


def merged(world):
    """Points 2 and 3 go; what is kept of them lies in other points' folders. The catalog is not told."""
    world.drop(2)
    world.drop(3)
    return world.vault.reclaim(TENANT, REPLICA)


@pytest.mark.parametrize("with_key", [False, True])
def test_dropped_and_merged_points_are_good_and_those_that_went_are_forgotten(scrubbed, with_key):
    scrubbed.round(with_key=with_key)
    scrubbed.world.drop(1)
    assert set(scrubbed.round(with_key=with_key).values()) == {"good"}
    done = merged(scrubbed.world)
    states = scrubbed.round(with_key=with_key)

    assert done.removed
    assert not set(done.removed) & set(states)
    assert set(states.values()) == {"good"}
    assert {row.number for row in scrubbed.catalog.scrubs()} == set(states)
    assert scrubbed.told == []
    check_kept(scrubbed.world)


def test_each_file_of_a_merged_point_counts(scrubbed):
    world = scrubbed.world
    world.drop(1)
    merged(world)
    folder = names.point_folder(TENANT, REPLICA, 4)
    found = world.store.names(folder)

    assert any("-p" in name for name in found), "nothing was absorbed"
    for name in found:
        with flipped(world.store, f"{folder}/{name}", len(content(world.store, f"{folder}/{name}")) // 2):
            assert scrubbed.scrubber().look(scrubbed.key(4)).state == "corrupt", name


@pytest.mark.parametrize("piece", range(1, 10, 2))
def test_a_merge_during_a_look_waits_and_wakes_nobody(scrubbed, piece):
    world, count, asked = scrubbed.world, [0], []
    world.drop(1)
    world.drop(2)

    def pace(_size):
        count[0] += 1
        if count[0] == piece:
            asked.append(world.vault.reclaim(TENANT, REPLICA))

    assert scrubbed.scrubber(pace, with_key=True).look(scrubbed.key(3)).state == "good"
    assert [(one.removed, one.put_off is not None) for one in asked] == [([], True)]
    assert world.vault.reclaim(TENANT, REPLICA).removed
    assert set(scrubbed.round(with_key=True).values()) == {"good"}
    assert scrubbed.told == []


def test_a_look_that_a_merge_came_between_begins_anew(scrubbed):
    """It was cut within files that are gone when it goes on."""
    world = scrubbed.world
    for cut in range(2, 6):
        with pytest.raises(Paused):
            scrubbed.scrubber(cut_after(cut)).look(scrubbed.key(4))
    world.drop(1)
    merged(world)

    assert scrubbed.scrubber(with_key=True).look(scrubbed.key(4)).state == "good"
    assert scrubbed.told == []


def test_while_files_are_moved_nothing_is_noted(scrubbed):
    with alone(scrubbed.world.store, TENANT, REPLICA), pytest.raises(BusyError):
        scrubbed.scrubber().look(scrubbed.key(1))
    assert scrubbed.catalog.scrubs() == ()

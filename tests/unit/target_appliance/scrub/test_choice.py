from itertools import permutations

import pytest

from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.catalog.model import ScrubRow
from target_appliance.scrub.choice import Due, next_points, within

NOW = 10_000_000.0
DAY = 86400
DUE = Due(every=30 * DAY, after=DAY)
TENANT, REPLICA = TenantId("acme"), ReplicaId("4c4c4544-0051-3010-8052-b4c04f564231")


def key(number):
    return (TENANT, REPLICA, PointNumber(number))


def row(number, days_ago, state="good", mark=None):
    checked = None if days_ago is None else int(NOW - days_ago * DAY)
    return ScrubRow(TENANT, REPLICA, PointNumber(number), state if checked else None, checked, mark=mark)


def order(rows, taken):
    times = {key(number): int(NOW - age * DAY) for number, age in taken.items()}
    return [one[2] for one in next_points(times, rows, DUE, NOW)]


def test_first_what_was_begun_then_what_was_never_seen_then_the_longest_unseen():
    rows = [row(1, 40), row(2, 90), row(4, 35, mark="disk-2000.vmdk"), row(5, 10)]
    taken = dict.fromkeys((1, 2, 3, 4, 5), 200)

    for shuffled in permutations(rows):
        assert order(shuffled, taken) == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("state", "days", "due"),
    [
        ("good", 29.9, False),
        ("good", 30.1, True),
        ("corrupt", 0.9, False),
        ("corrupt", 1.1, True),
        ("missing", 1.1, True),
        ("unreachable", 0.01, False),
        ("unreachable", 0.05, True),
    ],
)
def test_when_a_look_is_due(state, days, due):
    assert bool(order([row(1, days, state)], {1: 100})) is due


def test_a_fresh_point_waits():
    assert order([], {1: 0.5, 2: 1.5}) == [2]


def test_a_clock_that_was_set_back_delays_nothing():
    assert order([row(1, -400)], {1: 100, 2: -3}) == [1, 2]


def test_points_that_nobody_has_are_not_looked_at():
    assert order([row(9, 100)], {}) == []


@pytest.mark.parametrize(
    ("hours", "open_at"),
    [
        (None, range(24)),
        ((22, 6), [22, 23, 0, 1, 2, 3, 4, 5]),
        ((9, 17), range(9, 17)),
        ((0, 24), range(24)),
        ((3, 3), range(24)),
    ],
)
def test_hours(hours, open_at):
    assert [hour for hour in range(24) if within(hour, hours)] == sorted(open_at)

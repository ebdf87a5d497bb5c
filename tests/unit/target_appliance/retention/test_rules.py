"""The rules against golden tables that a person can check."""

import pytest

from target_appliance.retention.policy import Policy
from target_appliance.retention.rules import Point, decide, when
from tests.unit.target_appliance.retention.tables import FOLDER, read

TABLES = sorted(FOLDER.glob("*.txt"))


def test_there_are_forty_tables_or_more():
    assert len(TABLES) >= 40


@pytest.mark.parametrize("path", TABLES, ids=lambda path: path.stem)
def test_a_table_is_decided_as_it_says(path):
    table = read(path)

    assert list(decide(table.points, table.policy, table.holds, table.now)) == table.expected


def test_the_tables_know_every_rule_and_every_reason():
    policies = {name for path in TABLES for name in (read(path).policy or Policy()).members()}
    reasons = " ".join(reason for path in TABLES for one in read(path).expected for reason in one.reasons)

    assert policies == set(Policy.__slots__)
    for words in ("newest", "held", "locked until", "within", "sync under way", "no policy", "still to come", "closer"):
        assert words in reasons


def test_the_order_in_which_points_come_does_not_matter():
    table = read(FOLDER / "25-all-rules.txt")

    assert list(decide(table.points[::-1], table.policy, table.holds, table.now)) == table.expected


@pytest.mark.parametrize("time", [-(1 << 63), -1, 0, 1 << 62])
def test_times_that_cannot_be_are_no_obstacle(time):
    policy = Policy(last=1, hourly=1, daily=1, weekly=1, monthly=1, yearly=1, within=60)

    found = decide([Point(1, time, 1 << 62), Point(2, 1_795_000_000)], policy, {}, 1_795_000_000)

    assert all(one.kept for one in found)


def test_a_lock_is_told_no_earlier_than_it_ends():
    assert when(1_795_521_601) == "2026-11-24 12:01 UTC"
    assert when(1_795_521_600) == "2026-11-24 12:00 UTC"

from datetime import UTC, datetime, time
from zoneinfo import ZoneInfo

import pytest

from source_agent.schedule.week import DAYS, Week, Window

OFFICE = Window(frozenset(DAYS[:5]), time(8), time(18), 1.0)
NIGHT = Window(frozenset({"fri"}), time(22), time(6), 2.0)
WEEK = Week(UTC, (OFFICE, NIGHT), 9.0)


@pytest.mark.parametrize(
    ("moment", "rate"),
    [
        ("2026-11-23 07:59", 9.0),  # a Monday
        ("2026-11-23 08:00", 1.0),
        ("2026-11-23 17:59", 1.0),
        ("2026-11-23 18:00", 9.0),
        ("2026-11-28 12:00", 9.0),  # Saturday
        ("2026-11-27 21:59", 9.0),
        ("2026-11-27 22:00", 2.0),
        ("2026-11-28 05:59", 2.0),
        ("2026-11-28 06:00", 9.0),
        ("2026-11-27 05:00", 9.0),  # the night before began on a Thursday
    ],
)
def test_windows(moment, rate):
    assert WEEK.rate(datetime.fromisoformat(moment).replace(tzinfo=UTC)) == rate


def test_begin_and_end_alike_are_a_whole_day():
    week = Week(UTC, (Window(frozenset({"sun"}), time(0), time(0), 3.0),))
    assert week.rate(datetime(2026, 11, 29, 23, 59, tzinfo=UTC)) == 3.0
    assert week.rate(datetime(2026, 11, 30, 0, 0, tzinfo=UTC)) is None


def test_hours_are_those_of_the_zone_in_summer_as_in_winter():
    week = Week(ZoneInfo("Europe/Berlin"), (Window(frozenset(DAYS), time(8), time(9), 1.0),))
    assert week.rate(datetime(2026, 1, 15, 7, 30, tzinfo=UTC)) == 1.0
    assert week.rate(datetime(2026, 7, 15, 6, 30, tzinfo=UTC)) == 1.0
    assert week.rate(datetime(2026, 7, 15, 7, 30, tzinfo=UTC)) is None


def test_the_first_window_that_holds_counts():
    week = Week(UTC, (Window(frozenset(DAYS), time(12), time(13), 5.0), OFFICE))
    assert week.rate(datetime(2026, 11, 23, 12, 30, tzinfo=UTC)) == 5.0

"""Which points of a replica are kept, with every reason in words. Pure.

A calendar rule keeps the *first* point of each of its newest N hours, days, ISO weeks, months or years (UTC) that have
one. The first, because it stays the first whatever comes after it: a point that a rule keeps is kept by it until N
newer periods have points, and whoever floods a replica displaces nothing by it in a period that has begun. Periods
without points do not count, so that a replica that is no longer synced loses nothing.

Times are seconds since 1970-01-01 UTC by the appliance's own trusted time, never the source's.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from common.ids import PointNumber
from target_appliance.retention.policy import Policy, words


@dataclass(frozen=True, slots=True)
class Point:
    """What the rules look at."""

    number: PointNumber
    time: int
    """When it was committed."""
    locked_until: int | None = None
    in_use: bool = False
    """A sync that is under way may stand on it."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Somebody wants a point kept until he says otherwise."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one point; ``reasons`` is never empty."""

    number: PointNumber
    kept: bool
    reasons: tuple[str, ...]
    binding: tuple[str, ...] = ()
    """Of the reasons those that nobody overrules, a person at the command line neither."""


Holds = Mapping[PointNumber, Sequence[Hold]]

_DAY: Final = 86400


def _week(time: int) -> int:
    return (time // _DAY + 3) // 7  # 1970-01-01 was a Thursday, ISO weeks begin on Mondays


def _month(time: int) -> int:
    day = datetime.fromtimestamp(time, UTC)
    return day.year * 12 + day.month


_PERIODS: Final[Mapping[str, tuple[str, Callable[[int], int]]]] = {
    "hourly": ("hour", lambda time: time // 3600),
    "daily": ("day", lambda time: time // _DAY),
    "weekly": ("week", _week),
    "monthly": ("month", _month),
    "yearly": ("year", lambda time: datetime.fromtimestamp(time, UTC).year),
}


def decide(points: Sequence[Point], policy: Policy | None, holds: Holds, now: int) -> tuple[Verdict, ...]:
    """A verdict on each of ``points``, rising by number.

    Without a policy all are kept. Points whose time is still to come are kept, and count for no rule.
    """
    rising = sorted(points, key=lambda point: point.number)
    binding = {point.number: _binding(point, holds, now) for point in rising}
    keep = {point.number: [*binding[point.number], *_still_to_come(point, now)] for point in rising}
    drop: dict[PointNumber, list[str]] = {point.number: [] for point in rising}
    if rising:
        keep[rising[-1].number].insert(0, "newest point")
    for said in _ruled([point for point in rising if point.time <= now], policy):
        (keep if said.keeps else drop)[said.number].append(said.reason)
    if policy is None:
        for reasons in keep.values():
            reasons.append("no policy is set")
    return tuple(
        Verdict(number, bool(reasons), tuple(reasons or drop[number]), binding[number])
        for number, reasons in sorted(keep.items())
    )


@dataclass(frozen=True, slots=True)
class _Said:
    """What one rule says of one point. A point is kept if one rule keeps it."""

    number: PointNumber
    keeps: bool
    reason: str


def _binding(point: Point, holds: Holds, now: int) -> tuple[str, ...]:
    reasons = [f"held: {hold.name}, {hold.reason}" for hold in holds.get(point.number, ())]
    if point.in_use:
        reasons.insert(0, "a sync under way may stand on it")
    if point.locked_until is not None and point.locked_until > now:
        reasons.append(f"locked until {when(point.locked_until)}")
    return tuple(reasons)


def _still_to_come(point: Point, now: int) -> list[str]:
    return [f"its time, {when(point.time)}, is still to come"] if point.time > now else []


def _ruled(points: Sequence[Point], policy: Policy | None) -> Iterator[_Said]:
    if policy is None or not points:
        return
    if policy.within:
        yield from _within(points, policy.within)
    if policy.min_interval:
        close = f"last: closer than the minimum interval of {words(policy.min_interval)} to point {{}}"
        yield from _periods(points, "last", policy.last, (lambda time: time // policy.min_interval, close))
    elif policy.last:
        yield from _last(points, policy.last)
    for name, (word, period) in _PERIODS.items():
        if limit := getattr(policy, name):
            yield from _periods(points, name, limit, (period, f"{name}: point {{}} is the first of its {word}"))


def _within(points: Sequence[Point], seconds: int) -> Iterator[_Said]:
    """Counted from the newest point, so that a replica that is no longer synced loses nothing."""
    newest = max(point.time for point in points)
    for point in points:
        if newest - point.time <= seconds:
            yield _Said(point.number, True, f"within {words(seconds)}")
        else:
            yield _Said(point.number, False, f"more than {words(seconds)} before the newest point")


def _last(points: Sequence[Point], limit: int) -> Iterator[_Said]:
    for place, point in enumerate(reversed(points), 1):
        kept = place <= limit
        yield _Said(point.number, kept, f"last {place} of {limit}" if kept else _beyond("last", limit))


def _periods(points: Sequence[Point], name: str, limit: int, by: tuple[Callable[[int], int], str]) -> Iterator[_Said]:
    """Keep the first point of each of the newest ``limit`` periods.

    ``by`` tells the period of a time, and what is said of a point that is not the first, given which one is.
    """
    period, why = by
    of = {point.number: period(max(0, point.time)) for point in points}
    first: dict[int, PointNumber] = {}
    for point in points:
        first.setdefault(of[point.number], point.number)
    places = {key: place for place, key in enumerate(sorted(first, reverse=True), 1)}
    for number, key in of.items():
        if first[key] != number:
            yield _Said(number, False, why.format(first[key]))
        elif places[key] <= limit:
            yield _Said(number, True, f"{name} {places[key]} of {limit}")
        else:
            yield _Said(number, False, _beyond(name, limit))


def _beyond(name: str, limit: int) -> str:
    return f"{name}: {limit} {'is' if limit == 1 else 'are'} newer"


def when(seconds: int) -> str:
    """A time for a sentence, to the minute and not before it: ``2026-12-24 12:01 UTC``."""
    try:
        return f"{datetime.fromtimestamp(-(-seconds // 60) * 60, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return f"second {seconds}"

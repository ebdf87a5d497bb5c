"""Which points are looked at next. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.catalog.model import ScrubRow
from target_appliance.scrub.state import State

PointKey = tuple[TenantId, ReplicaId, PointNumber]


@dataclass(frozen=True, slots=True)
class Due:
    """When a look is due, in seconds."""

    every: float
    """Since the last look at a good point."""
    after: float
    """Since a snapshot, before the first look: what was just written comes from memory, not from the disk."""
    bad: float = 24 * 3600.0
    """Since a look at a bad point: somebody may have put its files back."""
    unreachable: float = 3600.0
    """Since a look at a point that could not be read."""


def next_points(taken: Mapping[PointKey, int], rows: Iterable[ScrubRow], due: Due, now: float) -> tuple[PointKey, ...]:
    """Points that are due, in order: one whose look was cut short, never looked at, then the longest not looked at.

    Args:
        taken: every point there is, or should be, with the time of its snapshot.
        rows: what was found so far.
        due: when.
        now: seconds since 1970-01-01 UTC, as all times here. A time in the future counts as long ago.
    """
    known = {(row.tenant, row.replica, row.number): row for row in rows}

    def age(time: int) -> float:
        return now - time if time <= now else float("inf")

    def order(key: PointKey) -> tuple[bool, float, PointKey]:
        row = known.get(key)
        checked = None if row is None else row.checked
        return (row is None or not row.under_way, float("-inf") if checked is None else -age(checked), key)

    def is_due(key: PointKey) -> bool:
        row = known.get(key)
        if row is not None and row.under_way:
            return True
        if row is None or row.checked is None:
            return age(taken[key]) >= due.after
        if row.state == State.GOOD:
            return age(row.checked) >= due.every
        return age(row.checked) >= (due.unreachable if row.state == State.UNREACHABLE else due.bad)

    return tuple(sorted((key for key in taken if is_due(key)), key=order))


def within(hour: int, hours: tuple[int, int] | None) -> bool:
    """Whether the hour of the day, 0 to 23, lies in ``hours``: from the first up to the second, over midnight too."""
    if hours is None or hours[0] == hours[1]:
        return True
    first, last = hours
    return first <= hour < last if first < last else hour >= first or hour < last

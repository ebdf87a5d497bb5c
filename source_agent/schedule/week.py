"""A limit by the hour of the week. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta, tzinfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True, slots=True)
class Window:
    """Some hours of some days; the rate in bytes a second."""

    days: frozenset[str]
    begin: time
    end: time
    """Not included. Not after ``begin``: the window ends on the next day."""
    rate: float

    def holds(self, local: datetime) -> bool:
        """Whether the moment is in the window."""
        today, at = DAYS[local.weekday()], local.time()
        if self.begin < self.end:
            return today in self.days and self.begin <= at < self.end
        yesterday = DAYS[(local - timedelta(days=1)).weekday()]
        return (today in self.days and at >= self.begin) or (yesterday in self.days and at < self.end)


@dataclass(frozen=True, slots=True)
class Week:
    """The windows, the first that holds counts; ``otherwise`` outside of all."""

    zone: tzinfo
    windows: Sequence[Window] = ()
    otherwise: float | None = None

    def rate(self, now: datetime) -> float | None:
        """Bytes a second at ``now``; None for no limit."""
        local = now.astimezone(self.zone)
        return next((window.rate for window in self.windows if window.holds(local)), self.otherwise)

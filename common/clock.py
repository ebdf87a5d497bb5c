"""Time as a dependency: wall clock for records, monotonic clock for durations and deadlines."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol


class Clock(Protocol):
    """What the code asks of time."""

    def now(self) -> datetime:
        """The wall clock, always in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary origin; never goes back."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait for ``seconds``."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """See Clock."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """See Clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """See Clock."""
        time.sleep(seconds)


def this_boot() -> str:
    """Names this boot of the machine, for which SystemClock's monotonic clock goes on; empty where nobody tells."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def days_left(not_after: datetime, now: datetime) -> float:
    """Days from ``now``; negative once it is over."""
    return (not_after - now).total_seconds() / 86400

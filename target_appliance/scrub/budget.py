"""The budget of time and bandwidth within which the scrub reads."""

import threading
from typing import Final

from common.bucket import SLICE_SECONDS, Bucket
from common.clock import Clock
from target_appliance.config import ScrubSettings
from target_appliance.scrub.choice import within
from target_appliance.scrub.scrubber import Paused

_TICK_SECONDS: Final = 0.001
"""Shortest wait; a shorter one may be too short to change the clock."""


class Budget:
    """For one thread.

    Args:
        settings: the rate, and the hours.
        clock: for both.
        stopping: set when the process ends.
        any_time: somebody waits for the outcome, so the hours do not count.
    """

    def __init__(
        self, settings: ScrubSettings, clock: Clock, stopping: threading.Event, *, any_time: bool = False
    ) -> None:
        self._rate = settings.mib_per_second * (1 << 20)
        self._hours = None if any_time else settings.hours
        self._clock = clock
        self._stopping = stopping
        self._bucket = Bucket()

    def open(self) -> bool:
        """Whether it may read now."""
        hour = self._clock.now().astimezone().hour
        return within(hour, self._hours) and not self._stopping.is_set()

    def spend(self, size: int) -> None:
        """Return when more may be read after ``size`` bytes. Raises Paused when the time is over."""
        if not self.open():
            raise Paused
        self._bucket.take(size, self._clock.monotonic(), self._rate)
        while wait := self._bucket.take(0, self._clock.monotonic(), self._rate):
            self._clock.sleep(max(_TICK_SECONDS, min(wait, SLICE_SECONDS)))
            if not self.open():
                raise Paused

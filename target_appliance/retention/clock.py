"""Time for retention and locks, which setting the machine's clock ahead does not bring forward.

It is counted by the monotonic clock, which is the machine's, not the process's (Linux counts from the boot): nothing is
gained by starting the appliance anew, and points of a time when the wall clock was wrong keep their distances. Over a
boot, when nobody counts, it may catch up with the wall clock by a day at most, and by no more than it had run since
the boot before, so that booting again and again gains nothing either. What it lags behind stays: things expire later.
"""

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from common import log
from common.clock import Clock, this_boot
from common.errors import DamagedError, NotFoundError
from target_appliance.recovery import small_file
from target_appliance.store.port import Store

_log = log.get("retention")

FOLDER: Final = "clock"
"""In the store, so that it goes where the points go."""
FILE: Final = "mark.json"
MOST_OVER_A_BOOT: Final = 86400
"""Seconds."""
OFF: Final = 3600
"""Seconds that it may differ from the wall clock before that is told."""
_SAVE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Mark:
    """Where trusted time stands. Times are seconds since 1970-01-01 UTC."""

    time: int
    """What it showed last: it never shows less."""
    base: int
    """The most that it could show at ``base_monotonic``."""
    base_monotonic: int
    boot: str
    """The boot that ``base_monotonic`` counts in."""
    ran: int
    """Seconds from ``base_monotonic`` to when it was last looked at."""

    def seen(self, wall: int, monotonic: int) -> "Mark":
        """The mark when it is looked at in the same boot."""
        ran = max(0, monotonic - self.base_monotonic)
        time = max(self.time + max(0, ran - self.ran), min(wall, self.base + ran))
        return replace(self, time=time, ran=ran)

    def in_boot(self, boot: str, monotonic: int) -> "Mark":
        """The mark to go on with in ``boot``."""
        if boot and boot == self.boot and monotonic >= self.base_monotonic:
            return self
        ahead = min(MOST_OVER_A_BOOT, self.ran)
        return Mark(self.time, self.time + ahead, monotonic, boot, 0)

    @classmethod
    def first(cls, time: int, ahead: int, boot: str, monotonic: int) -> "Mark":
        """The first one, which may catch up by ``ahead`` seconds."""
        return cls(time, time + ahead, monotonic, boot, 0)

    @classmethod
    def of_members(cls, members: dict[str, Any]) -> "Mark":
        """What the file holds. Raises ValueError."""
        try:
            return cls(
                int(members["time"]),
                int(members["base"]),
                int(members["base_monotonic"]),
                str(members["boot"]),
                int(members["ran"]),
            )
        except (KeyError, TypeError, OverflowError) as error:
            raise ValueError(f"a member is missing or not of its kind: {error}") from None


class TrustedTime:
    """See the module. Thread-safe. Reads the store at its first use, and writes it only in ``save``.

    Args:
        store: keeps the mark.
        clock: the machine's.
        floor: the newest time that the store's points bear, or None; asked where there is no mark.
        boot: names this boot of the machine; the kernel's word by default. Without one, each process counts as a boot.
    """

    def __init__(self, store: Store, clock: Clock, floor: Callable[[], int | None], boot: str | None = None) -> None:
        self._store = store
        self._clock = clock
        self._floor = floor
        self._boot = this_boot() if boot is None else boot
        self._lock = threading.Lock()
        self._mark: Mark | None = None
        self._saved: float | None = None
        self._told = False

    def now(self) -> int:
        """Seconds since 1970-01-01 UTC."""
        with self._lock:
            return self._mark_now().time

    def wall(self) -> int:
        """The same by the machine's wall clock."""
        return int(self._clock.now().timestamp())

    def lag(self) -> int:
        """Seconds that the wall clock is ahead; negative when it was set back."""
        return self.wall() - self.now()

    def save(self) -> None:
        """Keep the mark, at most once a minute; one process at a time does. Tells when the clock was set.

        Raises:
            StoreError, StoreFullError: the store's.
        """
        monotonic = self._clock.monotonic()
        with self._lock:
            if self._saved is not None and monotonic - self._saved < _SAVE_SECONDS:
                return
            mark = self._mark_now()
        self._store.make_folder(FOLDER)
        small_file.replace(self._store, FOLDER, FILE, asdict(mark))
        self._saved = monotonic
        self._tell()

    def _mark_now(self) -> Mark:
        mark = self._mark or self._load()
        self._mark = mark.seen(self.wall(), int(self._clock.monotonic()))
        return self._mark

    def _load(self) -> Mark:
        monotonic = int(self._clock.monotonic())
        try:
            found = Mark.of_members(small_file.read(self._store, f"{FOLDER}/{FILE}"))
        except NotFoundError:
            return self._without(monotonic)
        except (DamagedError, ValueError) as error:
            _log.warning("the mark of trusted time is damaged; it goes on from the newest point", cause=str(error))
            return self._without(monotonic)
        return found.in_boot(self._boot, monotonic)

    def _without(self, monotonic: int) -> Mark:
        """Removing the mark gains no more than a boot does."""
        floor = self._floor()
        if floor is None:
            return Mark.first(self.wall(), 0, self._boot, monotonic)
        return Mark.first(floor, MOST_OVER_A_BOOT, self._boot, monotonic)

    def _tell(self) -> None:
        lag = self.lag()
        off = abs(lag) > OFF
        if off and not self._told:
            _log.warning(
                "retention does not follow the machine's clock: it was set, or the appliance was off for long",
                seconds_behind_the_clock=lag,
                next_step="check NTP; points and locks expire later by as much, never earlier",
            )
        self._told = off

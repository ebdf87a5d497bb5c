"""What the serving process tells its audit log, so that nobody who calls it can fill the disk or act unseen.

Refusals are told once, and then counted: one line for a minute's worth of the same. Acts of one tenant are bounded by
the minute. When the log cannot be written, acts that need it are refused before they are done; what ends meanwhile
waits in memory, as far as there is room, and is told when the log can be written again.
"""

import threading
from collections import Counter, deque
from dataclasses import dataclass, replace
from typing import Final

from common import log
from common.clock import Clock
from common.errors import LimitExceededError, StoreError, StoreFullError
from common.ids import TenantId
from target_appliance.audit.event import Event, Fact, What, Who
from target_appliance.audit.log import APPLIANCE, AuditLog

_log = log.get("audit")

WINDOW_SECONDS: Final = 60.0
MOST_KINDS: Final = 64
"""Refusals that are told apart in a window; the rest are counted together."""
MOST_ACTS: Final = 600
"""Acts of one tenant in a window: ten a second."""
MOST_WAITING: Final = 1000
"""Events that wait in memory for a log that cannot be written."""


@dataclass
class _Window:
    """Refusals of one kind."""

    kind: Event
    """Without facts."""
    began: float
    more: int = 0
    """How many came after the first."""


class Recorder:
    """See the module. Methods may be called from any thread."""

    def __init__(self, audit_log: AuditLog, clock: Clock) -> None:
        self.log = audit_log
        self._clock = clock
        self._lock = threading.Lock()
        self._refusals: dict[tuple[What, Who, str, str], _Window] = {}
        self._others = 0
        self._acts: Counter[TenantId] = Counter()
        self._acts_began = clock.monotonic()
        self._waiting: deque[Event] = deque()
        self._lost = 0

    def admit(self, tenant: TenantId) -> None:
        """Return if an act of the tenant's that must be told may begin.

        Raises:
            LimitExceededError: the tenant has acted too often within a minute.
            StoreError, StoreFullError: the log cannot be written.
        """
        with self._lock:
            now = self._clock.monotonic()
            if now - self._acts_began >= WINDOW_SECONDS:
                self._acts.clear()
                self._acts_began = now
            if self._acts[tenant] >= MOST_ACTS:
                raise LimitExceededError(
                    f"tenant {tenant} has begun {MOST_ACTS} syncs and reads within a minute, which is the limit",
                    subject=f"tenant {tenant}",
                    next_step="wait a minute; find out what begins so many",
                )
            self._acts[tenant] += 1
            if self._waiting or self._lost:
                self._write()

    def record(self, event: Event, *, strict: bool) -> None:
        """Tell an event.

        Raises:
            StoreError, StoreFullError: only if ``strict``: the log cannot be written. Else the event waits.
        """
        with self._lock:
            try:
                self._write(event)
            except (StoreError, StoreFullError) as error:
                if strict:
                    raise
                self._wait(event, error)

    def refused(self, event: Event) -> None:
        """Tell a refusal, or count it; never raises. Facts of its like in the same minute go untold."""
        kind = (event.what, event.who, event.object, event.outcome)
        with self._lock:
            window = self._refusals.get(kind)
            if window is not None:
                window.more += 1
                return
            if len(self._refusals) >= MOST_KINDS:
                self._others += 1
                return
            self._refusals[kind] = _Window(replace(event, facts={}), self._clock.monotonic())
        self.record(event, strict=False)

    def settle(self, *, last: bool = False) -> None:
        """Tell what was counted in minutes that are over, and what waits; call it every few seconds.

        Args:
            last: the process ends: tell everything.
        """
        with self._lock:
            limit = self._clock.monotonic() - WINDOW_SECONDS
            over = {kind: one for kind, one in self._refusals.items() if last or one.began <= limit}
            for kind in over:
                del self._refusals[kind]
            events = [replace(one.kind, facts={"repeated": one.more}) for one in over.values() if one.more]
            if self._others and (over or last):
                others = Event(What.REFUSED, APPLIANCE, "others", "SEVERAL", {"repeated": self._others})
                events, self._others = [*events, others], 0
            if not (events or self._waiting or self._lost):
                return
            try:
                self._write(*events)
            except (StoreError, StoreFullError) as error:
                for event in events:
                    self._wait(event, error)

    def _write(self, *events: Event) -> None:
        before = list(self._waiting)
        if before or self._lost:
            facts: dict[str, Fact] = {"waited": len(before), "lost": self._lost}
            before.insert(0, Event(What.LOG_RESUMED, APPLIANCE, "audit log", facts=facts))
        self.log.append(*before, *events)
        self._waiting.clear()
        self._lost = 0

    def _wait(self, event: Event, error: StoreError | StoreFullError) -> None:
        if not self._waiting and not self._lost:
            _log.error("the audit log cannot be written: new syncs and reads are refused", cause=error.message)
        if len(self._waiting) >= MOST_WAITING:
            self._lost += 1
            return
        self._waiting.append(replace(event, facts={**event.facts, "at": self._clock.now().isoformat()}))

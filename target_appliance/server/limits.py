"""How much one tenant may have open at once, and how long a stream may be silent."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from common.clock import Clock
from common.errors import LimitExceededError
from common.ids import TenantId


class StreamCap:
    """Counts open streams by tenant."""

    def __init__(self, per_tenant: int) -> None:
        self._per_tenant = per_tenant
        self._lock = threading.Lock()
        self._open: Counter[TenantId] = Counter()

    @contextmanager
    def slot(self, tenant: TenantId) -> Iterator[None]:
        """Hold one of the tenant's streams.

        Raises:
            LimitExceededError: it has as many open as it may.
        """
        with self._lock:
            if self._open[tenant] >= self._per_tenant:
                raise LimitExceededError(
                    f"tenant {tenant} has {self._per_tenant} streams open, which is the limit",
                    subject=f"tenant {tenant}",
                    next_step="wait for a sync to end, or sync fewer disks at once (sync.parallel_disks)",
                )
            self._open[tenant] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[tenant] -= 1
                if not self._open[tenant]:
                    del self._open[tenant]


class IdleWatch:
    """Ends streams that have been silent for too long.

    gRPC offers no deadline between two messages of a stream, so one thread looks at all of them.
    """

    def __init__(self, clock: Clock, idle_seconds: float) -> None:
        self._clock = clock
        self._limit = idle_seconds
        self._lock = threading.Lock()
        self._heard: dict[int, tuple[float, Any]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="idle-watch", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; returns when the thread is gone."""
        self._stop.set()
        self._thread.join()

    @contextmanager
    def watched(self, call: Any) -> Iterator[None]:
        """Watch ``call``, which has a ``cancel`` method, for the length of the block."""
        self.heard(call)
        try:
            yield
        finally:
            with self._lock:
                self._heard.pop(id(call), None)

    def heard(self, call: Any) -> None:
        """A message came on ``call``."""
        with self._lock:
            self._heard[id(call)] = (self._clock.monotonic(), call)

    def cut_silent(self) -> int:
        """Cancel every call that is past the limit; returns how many."""
        limit = self._clock.monotonic() - self._limit
        with self._lock:
            silent = [(key, call) for key, (heard, call) in self._heard.items() if heard < limit]
            for key, _call in silent:
                del self._heard[key]
        for _key, call in silent:
            call.cancel()
        return len(silent)

    def _run(self) -> None:
        while not self._stop.wait(min(self._limit / 4, 5.0)):
            self.cut_silent()

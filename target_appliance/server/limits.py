"""How much one tenant may have open at once, and how long a stream may be silent."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from common import log
from common.clock import Clock
from common.errors import KeysapartError, LimitExceededError
from common.ids import TenantId

_log = log.get("server")


CALLS_PER_TENANT: Final = 32
"""Calls that are no streams, of one tenant's agents and operators together; each takes milliseconds, commits more."""
_CALLS: Final = "a call"


class StreamCap:
    """Counts open streams by tenant and kind, and calls by tenant; ``most`` tells how many streams of each kind."""

    def __init__(self, most: Callable[[TenantId], int]) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._open: Counter[tuple[TenantId, str]] = Counter()

    @contextmanager
    def slot(self, tenant: TenantId, kind: str) -> Iterator[None]:
        """Hold one of the tenant's streams.

        Raises:
            LimitExceededError: it has as many open as it may.
        """
        most = self._most(tenant)
        refusal = LimitExceededError(
            f"tenant {tenant} has {most} streams open, which is the limit",
            subject=f"tenant {tenant}",
            next_step="wait for a sync to end, or sync fewer disks at once (sync.parallel_disks)",
        )
        with self._held((tenant, kind), most, refusal):
            yield

    @contextmanager
    def call(self, tenant: TenantId) -> Iterator[None]:
        """Hold one of the tenant's calls.

        Raises:
            LimitExceededError: it has as many under way as it may.
        """
        refusal = LimitExceededError(
            f"tenant {tenant} has {CALLS_PER_TENANT} calls under way, which is the limit",
            subject=f"tenant {tenant}",
            next_step="sync again later, and fewer VMs at once",
        )
        with self._held((tenant, _CALLS), CALLS_PER_TENANT, refusal):
            yield

    @contextmanager
    def _held(self, key: tuple[TenantId, str], most: int, refusal: LimitExceededError) -> Iterator[None]:
        with self._lock:
            if self._open[key] >= most:
                raise refusal
            self._open[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._open[key] -= 1
                if not self._open[key]:
                    del self._open[key]


def _always() -> None:
    """Nothing ends the call's right."""


@dataclass(slots=True)
class _Watched:
    call: Any
    heard: float
    require: Callable[[], None]


class IdleWatch:
    """Ends streams that have been silent for too long, and those whose callers are not let in any more.

    gRPC offers no deadline between two messages of a stream, so one thread looks at all of them.
    """

    def __init__(self, clock: Clock, idle_seconds: float) -> None:
        self._clock = clock
        self._limit = idle_seconds
        self._lock = threading.Lock()
        self._watched: dict[int, _Watched] = {}
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
    def watched(self, call: Any, require: Callable[[], None] = _always) -> Iterator[None]:
        """Watch ``call``, which has ``cancel``, for the length of the block; end it when ``require`` raises."""
        with self._lock:
            self._watched[id(call)] = _Watched(call, self._clock.monotonic(), require)
        try:
            yield
        finally:
            with self._lock:
                self._watched.pop(id(call), None)

    def heard(self, call: Any) -> None:
        """A message came on ``call``, if it is watched."""
        with self._lock:
            if (found := self._watched.get(id(call))) is not None:
                found.heard = self._clock.monotonic()

    def cut(self) -> int:
        """Cancel every call that is past the limit, or whose caller is not let in any more; returns how many."""
        limit = self._clock.monotonic() - self._limit
        with self._lock:
            watched = list(self._watched.items())
        ended = [(key, one) for key, one in watched if one.heard < limit or not _let_in(one)]
        for key, one in ended:
            with self._lock:
                self._watched.pop(key, None)
            one.call.cancel()
        return len(ended)

    def _run(self) -> None:
        while not self._stop.wait(min(self._limit / 4, 5.0)):
            self.cut()


def _let_in(one: _Watched) -> bool:
    try:
        one.require()
    except KeysapartError as error:
        _log.warning("call ended", cause=error.message)
        return False
    return True

"""One sync's connection to the target: when it breaks it is made anew, and every disk goes on where the target stands.

A refusal is no break: it ends the sync. A break is waited out for a set time, counted from the first one after which
nothing moved any more; then the sync is given up, because its snapshot grows in the customer's datastore meanwhile.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from common import log
from common.clock import Clock
from common.errors import KeysapartError, KmsUnavailableError, NotFoundError, TargetUnavailableError
from common.ids import ReplicaId, SyncId
from common.wire.v1 import replication_pb2 as wire
from source_agent.stream.flight import Flight

_log = log.get("link")

BREAKS: Final = (TargetUnavailableError, KmsUnavailableError)
"""Failures that are waited out."""

_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 10.0
_STOOD_SECONDS: Final = 60.0
"""A link that stood for so long was good, though nothing may have needed sending."""
_POLL_SECONDS: Final = 1.0


class ResumeTarget(Protocol):
    """The part of the target that a link needs."""

    def reconnect(self) -> None:
        """Give up the connection with all calls on it; the next call makes another."""
        ...

    def resume(self, sync: SyncId, replica: ReplicaId) -> wire.ResumeSyncResponse:
        """How far the sync is."""
        ...

    def commit(self, sync: SyncId) -> wire.CommitSyncResponse:
        """Make the sync a point."""
        ...


class Link:
    """The connection of one open sync. Thread-safe.

    Args:
        target: the target.
        clock: for the patience.
        pause: waits for so many seconds; raises InterruptedSyncError when the sync is to end.
        say: told when the target is waited for, and when it is back.
        sync: the sync.
        replica: its VM.
        patience_seconds: how long nothing may move before the sync is given up; 0 tries once.
    """

    def __init__(
        self,
        target: ResumeTarget,
        clock: Clock,
        pause: Callable[[float], None],
        say: Callable[[str], None],
        *,
        sync: SyncId,
        replica: ReplicaId,
        patience_seconds: float,
    ) -> None:
        self._target = target
        self._clock = clock
        self._pause = pause
        self._say = say
        self._sync = sync
        self._replica = replica
        self._patience = patience_seconds
        self._lock = threading.Lock()
        self._generation = 0
        self._state = wire.ResumeSyncResponse()
        self._moved = -1
        self._failing_since = 0.0
        self._mended = clock.monotonic()
        self._next_pause = 0.0
        self.flight = Flight()

    @contextmanager
    def starting(self) -> Iterator[int]:
        """A stream is started in the block, never while the link is being mended; yields what ``mend`` asks for."""
        with self._lock:
            yield self._generation

    def mend(self, generation: int, cause: KeysapartError) -> wire.ResumeSyncResponse:
        """Connect anew and tell how far the sync is; every stream of the sync is over then.

        Args:
            generation: what ``starting`` gave to the stream that broke; if the link was mended since, this returns at
                once what the target said then.
            cause: how the break showed.

        Raises:
            TargetUnavailableError: the target was out of reach for too long, or knows the sync no more.
            KeysapartError: the target's refusal.
        """
        with self._lock:
            if generation == self._generation:
                self._mend(cause)
            return self._state

    def commit(self) -> wire.CommitSyncResponse:
        """Make the sync a point, whose answer may be lost once or more. Raises as ``mend`` does."""
        while True:
            with self.starting() as generation:
                pass
            try:
                return self._target.commit(self._sync)
            except BREAKS as error:
                state = self.mend(generation, error)
            while state.committing:
                self._pause(_POLL_SECONDS)
                try:
                    state = self._target.resume(self._sync, self._replica)
                except BREAKS as error:
                    state = self.mend(self._generation, error)
            if state.HasField("committed"):
                return state.committed

    def _mend(self, cause: KeysapartError) -> None:
        self.flight.cut()
        now = self._clock.monotonic()
        if self._next_pause == 0 or now - self._mended > _STOOD_SECONDS:
            self._failing_since = now
        _log.info("the link broke", sync=self._sync, cause=cause.message)
        waiting = False
        while True:
            self._pause(self._next_pause)
            self._next_pause = min(max(2 * self._next_pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._target.reconnect()
            try:
                state = self._target.resume(self._sync, self._replica)
                break
            except NotFoundError as error:
                raise self._forgotten() from error
            except BREAKS as error:
                if self._clock.monotonic() - self._failing_since >= self._patience:
                    raise self._given_up(error) from error
                if not waiting:
                    minutes = self._patience / 60
                    self._say(f"waiting up to {minutes:g} minutes for the target: {error.message}")
                waiting = True
        if waiting:
            self._say("the target is back, going on")
        self._generation += 1
        self._state = state
        self._mended = self._clock.monotonic()
        moved = _moved(state)
        if moved > self._moved:
            self._moved = moved
            self._next_pause = 0.0
        elif self._mended - self._failing_since >= self._patience:
            raise self._given_up(cause)

    def _given_up(self, error: KeysapartError) -> KeysapartError:
        if not self._patience:
            return error
        return TargetUnavailableError(
            f"nothing reached the target for {self._patience / 60:g} minutes and the sync was given up, so that its"
            f" snapshot does not fill the datastore ({error.message})",
            subject=error.subject,
            next_step="mend the link, then sync again, which sends anew what changed since the last point",
        )

    def _forgotten(self) -> KeysapartError:
        return TargetUnavailableError(
            "the target no longer holds the sync: it was out of reach for too long, or it was restarted",
            subject=f"sync {self._sync}",
            next_step="sync again, which sends anew what changed since the last point",
        )


def _moved(state: wire.ResumeSyncResponse) -> int:
    """A number that rises when the sync moves."""
    return sum(one.next_grain + one.finished for one in state.disks)

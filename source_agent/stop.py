"""Asking a sync to end, from another thread, in one of two manners: for good, or parked for the next process.

For good, it aborts at the target and removes its snapshot. Parked, it leaves both as they are, if the target has it
open already.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from common.errors import InterruptedSyncError, KeysapartError


class Stop:
    """One sync's; methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may come while its own thread holds it
        self._error: KeysapartError | None = None
        self._parks = False
        self._actions: list[Callable[[], None]] = []

    @property
    def parks(self) -> bool:
        """The sync is to end, and to be parked if it can be."""
        return self._parks

    @property
    def cause(self) -> str:
        """Why the sync is to end; empty when it is not."""
        return "" if self._error is None else self._error.message

    def ask(self, cause: str | KeysapartError) -> None:
        """End the sync as soon as it can be; ``cause`` is what its error will say, or the error itself.

        The first cause counts, except that nobody parks what was asked to end.
        """
        self._end(cause, parks=False)

    def park(self, cause: str) -> None:
        """The same, and leave the sync for the next process where that can go on with it."""
        self._end(cause, parks=True)

    def mark(self, cause: str | KeysapartError, *, parks: bool) -> None:
        """As ``ask`` and ``park`` do, but nothing is called: for signal handlers that raise the error themselves."""
        error = (
            cause
            if isinstance(cause, KeysapartError)
            else InterruptedSyncError(
                cause, subject="source-agent", next_step="nothing was committed; the next sync starts again"
            )
        )
        with self._lock:
            if self._error is None or (self._parks and not parks):
                self._error, self._parks = error, parks

    def check(self) -> None:
        """Return unless the sync is to end.

        Raises:
            KeysapartError: it is; an InterruptedSyncError unless whoever asked had another reason.
        """
        if self._error is not None:
            raise self._error

    @contextmanager
    def calling(self, action: Callable[[], None]) -> Iterator[None]:
        """``action`` is called when, during the block, the sync is asked to end, or was before."""
        with self._lock:
            self._actions.append(action)
            asked = self._error is not None
        if asked:
            action()
        try:
            yield
        finally:
            with self._lock:
                self._actions.remove(action)

    def _end(self, cause: str | KeysapartError, *, parks: bool) -> None:
        self.mark(cause, parks=parks)
        with self._lock:
            actions = list(self._actions)
        for action in actions:
            action()

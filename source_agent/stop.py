"""Asking a sync to end, from another thread: it aborts at the target, removes its snapshot, and says why."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from common.errors import InterruptedSyncError


class Stop:
    """One sync's; methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cause: str | None = None
        self._actions: list[Callable[[], None]] = []

    def ask(self, cause: str) -> None:
        """End the sync as soon as it can be; ``cause`` is what its error will say."""
        with self._lock:
            self._cause = self._cause or cause
            actions = list(self._actions)
        for action in actions:
            action()

    def check(self) -> None:
        """Return unless the sync is to end.

        Raises:
            InterruptedSyncError: it is.
        """
        if self._cause is not None:
            raise InterruptedSyncError(
                self._cause, subject="source-agent", next_step="nothing was committed; the next sync starts again"
            )

    @contextmanager
    def calling(self, action: Callable[[], None]) -> Iterator[None]:
        """``action`` is called once when, during the block, the sync is asked to end, or was before."""
        with self._lock:
            self._actions.append(action)
            asked = self._cause is not None
        if asked:
            action()
        try:
            yield
        finally:
            with self._lock:
                self._actions.remove(action)

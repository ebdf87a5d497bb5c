"""Asking a sync to end, from another thread: it aborts at the target, removes its snapshot, and says why."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from common.errors import InterruptedSyncError, KeysapartError


class Stop:
    """One sync's; methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._error: KeysapartError | None = None
        self._actions: list[Callable[[], None]] = []

    def ask(self, cause: str | KeysapartError) -> None:
        """End the sync as soon as it can be; ``cause`` is what its error will say, or the error itself."""
        error = (
            cause
            if isinstance(cause, KeysapartError)
            else InterruptedSyncError(
                cause, subject="source-agent", next_step="nothing was committed; the next sync starts again"
            )
        )
        with self._lock:
            self._error = self._error or error
            actions = list(self._actions)
        for action in actions:
            action()

    def check(self) -> None:
        """Return unless the sync is to end.

        Raises:
            KeysapartError: it is; an InterruptedSyncError unless whoever asked had another reason.
        """
        if self._error is not None:
            raise self._error

    @contextmanager
    def calling(self, action: Callable[[], None]) -> Iterator[None]:
        """``action`` is called once when, during the block, the sync is asked to end, or was before."""
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

"""Opened grains of all disks of a view: read on a few threads, each once, the most recent ones kept."""

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from common.closing import Closing

Grains = list[bytes | None]
Key = tuple[int, int]
"""A disk, and the piece's number on it."""

PIECE_GRAINS: Final = 4
_THREADS_MOST: Final = 4
_KEPT_MOST: Final = 128
"""32 MiB."""


class Pieces(Closing):
    """Thread-safe. Memory is that of the pieces kept, and of those that somebody waits for."""

    def __init__(self, kept_most: int = _KEPT_MOST) -> None:
        self._pool = ThreadPoolExecutor(min(_THREADS_MOST, os.cpu_count() or 1), "piece")
        self._kept_most = kept_most
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Future[Grains]] = OrderedDict()

    def begin(self, key: Key, load: Callable[[], Grains]) -> "Future[Grains]":
        """The piece, on its way or there. One that failed is read again when it is asked for again.

        Raises:
            RuntimeError: it is closed.
        """
        with self._lock:
            found = self._kept.get(key)
            if found is None or (found.done() and found.exception() is not None):
                found = self._kept[key] = self._pool.submit(load)
            self._kept.move_to_end(key)
            while len(self._kept) > self._kept_most:
                self._kept.popitem(last=False)
            return found

    def close(self) -> None:
        """Returns when nothing is read any more."""
        self._pool.shutdown(cancel_futures=True)
        self._kept.clear()

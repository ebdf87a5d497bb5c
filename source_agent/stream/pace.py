"""The bandwidth limit: one token bucket over all streams of the process, taken from where frames leave.

What is counted are frames; TLS and HTTP/2 add about one part in a hundred. A stream that waits sends nothing meanwhile,
and is neither cut nor loses its lease: its sync goes on saying that it lives.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Final

from common.clock import Clock

SLICE_SECONDS: Final = 0.25
"""Longest single wait: a limit that was lifted and a stream that has ended are noticed after it."""

_BURST_SECONDS: Final = 0.25
"""How much of an unused rate is kept for later."""

Limit = Callable[[], float | None]
"""The rate at present in bytes a second; None for no limit."""


class Bucket:
    """Tokens are bytes. Pure: the time and the rate come with each call. Not safe for threads."""

    def __init__(self) -> None:
        self._tokens = 0.0
        self._at: float | None = None

    def take(self, size: int, now: float, rate: float | None) -> float:
        """0.0 when ``size`` bytes may go now, and they are counted; else seconds until it is worth to ask again.

        A frame goes as soon as the bucket is not in debt, however large it is: the debt is what later ones wait for.
        """
        if rate is None:
            self._at, self._tokens = None, 0.0
            return 0.0
        if self._at is not None:
            self._tokens = min(rate * _BURST_SECONDS, self._tokens + (now - self._at) * rate)
        self._at = now
        if self._tokens >= 0:
            self._tokens -= size
            return 0.0
        return -self._tokens / rate


def unlimited() -> None:
    """The limit that is none."""


class Pace:
    """A bucket for all streams; methods may be called from any thread.

    Args:
        clock: for waiting.
        limit: asked before each frame; may be replaced at any time.
    """

    def __init__(self, clock: Clock, limit: Limit = unlimited) -> None:
        self.limit = limit
        self._clock = clock
        self._bucket = Bucket()
        self._lock = threading.Lock()

    def paced(
        self, frames: Iterator[bytes], over: Callable[[], bool], held: Callable[[], None] = unlimited
    ) -> Iterator[bytes]:
        """``frames``, each held back until it may go; all at once when ``over`` says that the stream has ended.

        ``held`` is told again and again while a frame is held back.
        """
        for frame in frames:
            while not over() and (wait := self._take(len(frame))):
                held()
                self._clock.sleep(min(wait, SLICE_SECONDS))
            yield frame

    def _take(self, size: int) -> float:
        with self._lock:
            return self._bucket.take(size, self._clock.monotonic(), self.limit())

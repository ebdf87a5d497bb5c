"""The bandwidth limit: one token bucket over all streams of the process, taken from where frames leave.

What is counted are frames; TLS and HTTP/2 add about one part in a hundred. A stream that waits sends nothing meanwhile,
and is neither cut nor loses its lease: its sync goes on saying that it lives.
"""

import threading
from collections.abc import Callable, Iterator

from common.bucket import SLICE_SECONDS, Bucket
from common.clock import Clock

Limit = Callable[[], float | None]
"""The rate at present in bytes a second; None for no limit."""


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

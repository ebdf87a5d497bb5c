"""A token bucket: how many bytes may go now. Pure: the time and the rate come with each call."""

from typing import Final

SLICE_SECONDS: Final = 0.25
"""Longest single wait: a limit that was lifted and a stream that has ended are noticed after it."""

_BURST_SECONDS: Final = 0.25
"""How much of an unused rate is kept for later."""


class Bucket:
    """Tokens are bytes. Not safe for threads."""

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

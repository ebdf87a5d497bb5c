"""DEKs that are kept for a while, and for how long the KMS's last word on a KEK counts."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from common import log
from common.clock import Clock
from common.errors import KeyNotUsableError, KmsUnavailableError
from target_appliance.kms.port import WrappedKey
from target_appliance.recovery.key_files import ChosenKek
from target_appliance.seal.secret import Held

_log = log.get("keys")

KEEP_SECONDS: Final = 900.0
"""Unless the configuration says otherwise."""
RETRY_SECONDS: Final = 5.0
"""Between two questions to a KMS that does not answer: each may take until its deadline."""


@dataclass(frozen=True, slots=True)
class Wrapping:
    """A wrapped DEK and what it is bound to: an altered file is another wrapping, which nobody has unwrapped yet."""

    context: bytes
    wrapped: WrappedKey
    kms: str | None

    @property
    def kek(self) -> ChosenKek:
        """Under which KEK."""
        return ChosenKek(self.kms, self.wrapped.kek_id)


class KeyCache:
    """DEKs by their wrapping, each for at most ``seconds``; wiped when dropped and not in use. Thread-safe."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._kept: dict[Wrapping, tuple[float, Held]] = {}

    def get(self, wrapping: Wrapping) -> Held | None:
        """The DEK, if it is there and not too old."""
        with self._lock:
            since, held = self._kept.get(wrapping, (0.0, None))
            if held is not None and self._clock.monotonic() - since >= self._seconds:
                del self._kept[wrapping]
                return None
            return held

    def put(self, wrapping: Wrapping, held: Held) -> None:
        """Keep a DEK from now on."""
        with self._lock:
            self._kept[wrapping] = (self._clock.monotonic(), held)

    def drop_old(self) -> None:
        """Let go of those whose time is over; call it every few seconds."""
        limit = self._clock.monotonic() - self._seconds
        with self._lock:
            for wrapping in [one for one, (since, _) in self._kept.items() if since <= limit]:
                del self._kept[wrapping]

    def drop(self, kek: ChosenKek) -> None:
        """Let go of all that are under a KEK."""
        with self._lock:
            for wrapping in [one for one in self._kept if one.kek == kek]:
                del self._kept[wrapping]

    def clear(self) -> None:
        """Let go of all."""
        with self._lock:
            self._kept.clear()


@dataclass
class _Word:
    """The KMS's last one on a key."""

    asking: threading.Lock = field(default_factory=threading.Lock)
    confirmed: float | None = None
    """When it last said yes."""
    failed: float | None = None
    """When it last did not answer, if that was the last time it was asked."""


class Confirmations:
    """When the KMS last said that a key is Active. Thread-safe.

    Args:
        clock: for how old its word is.
        seconds: for how long that counts when the KMS does not answer.
    """

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._words: dict[str, _Word] = {}

    def note(self, key: str) -> None:
        """The KMS has just let the key be used."""
        word = self._word(key)
        word.confirmed, word.failed = self._clock.monotonic(), None

    def require(self, key: str, ask: Callable[[], object], every: float) -> None:
        """Return while the key may be used.

        Args:
            key: which.
            ask: asks the KMS; raises KeyNotUsableError or KmsUnavailableError.
            every: seconds for which its last word is enough.

        Raises:
            KeyNotUsableError: the KMS says that it may not.
            KmsUnavailableError: the KMS has not answered for ``seconds``.
        """
        word = self._word(key)
        if self._enough(word, every):
            return
        # One asks. The others go on meanwhile, as long as the last word counts.
        if not word.asking.acquire(blocking=not self._counts(word)):
            return
        try:
            if self._enough(word, every):
                return
            began = self._clock.monotonic()
            try:
                ask()
            except KmsUnavailableError as error:
                word.failed = self._clock.monotonic()
                if not self._counts(word):
                    raise
                _log.warning("the KMS does not answer; work goes on for a while", key=key, cause=error.message)
            except KeyNotUsableError:
                word.confirmed = word.failed = None
                raise
            else:
                word.confirmed, word.failed = began, None
        finally:
            word.asking.release()

    def _enough(self, word: _Word, every: float) -> bool:
        now = self._clock.monotonic()
        confirmed, failed = word.confirmed, word.failed
        if confirmed is None or now - confirmed >= self._seconds:
            return False
        return now - confirmed < every or (failed is not None and now - failed < max(every, RETRY_SECONDS))

    def _counts(self, word: _Word) -> bool:
        return word.confirmed is not None and self._clock.monotonic() - word.confirmed < self._seconds

    def _word(self, key: str) -> _Word:
        with self._lock:
            return self._words.setdefault(key, _Word())

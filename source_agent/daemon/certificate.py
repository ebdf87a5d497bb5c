"""The daemon's thread that keeps the certificate: renews it, takes over files that were replaced, tells of trouble."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from common import log
from common.clock import Clock, days_left
from common.errors import KeysapartError
from common.tls import Identity
from source_agent.daemon.watch import broken
from source_agent.pairing.renewal import require_long_life
from source_agent.stream.channel import Bearer

_EVERY: Final = 60.0
_log = log.get("certificate")


class CertificateWatch:
    """See the module. ``check``, ``told`` and ``days_left`` may be called from any thread.

    Args:
        renewed: the identity in the files, renewed if that was due.
        bearer: who new connections say they are.
        redial: called when that has changed.
        clock: the time.
    """

    def __init__(
        self, renewed: Callable[[], Identity], bearer: Bearer, redial: Callable[[], None], clock: Clock
    ) -> None:
        self._renewed = renewed
        self._bearer = bearer
        self._redial = redial
        self._clock = clock
        self._trouble: KeysapartError | None = None
        self._over = threading.Event()

    def look(self) -> None:
        """Renew if it is due, and take over what stands in the files; never raises."""
        trouble: KeysapartError | None = None
        try:
            identity = self._renewed()
            if identity.certificate != self._bearer.identity.certificate:
                self._bearer.identity = identity
                self._redial()
                _log.info("new connections show another certificate", until=f"{identity.not_after:%Y-%m-%d}")
        except KeysapartError as error:
            trouble = error
        except Exception as error:  # noqa: BLE001  a mistake of ours in one look must not end the looking
            trouble = broken(error, "the renewal")
        if trouble is not None and (self._trouble is None or self._trouble.message != trouble.message):
            _log.warning("the certificate was not renewed", cause=trouble.message, next_step=trouble.next_step)
        self._trouble = trouble

    def check(self) -> None:
        """Return if the certificate is renewed as it should be; for the health port. Raises KeysapartError."""
        if self._trouble is not None:
            raise self._trouble
        require_long_life(self._bearer.identity.certificate, self._clock.now())

    def days_left(self) -> float:
        """Days until the certificate ends."""
        return days_left(self._bearer.identity.not_after, self._clock.now())

    def failing(self) -> bool:
        """Whether ``check`` raises."""
        try:
            self.check()
        except KeysapartError:
            return True
        return False

    def told(self) -> dict[str, Any]:
        """For the status document."""
        error = None
        try:
            self.check()
        except KeysapartError as trouble:
            error = trouble.message
        return {
            "certificate_until": self._bearer.identity.not_after.isoformat(timespec="seconds"),
            "certificate_days_left": round(self.days_left(), 1),
            "certificate_error": error,
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        """A thread that looks every minute while the block runs."""
        thread = threading.Thread(target=self._run, name="certificate", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            self.look()
            self._over.wait(_EVERY)

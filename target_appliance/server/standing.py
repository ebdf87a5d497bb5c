"""Whether a caller is still let in, while its call runs."""

import threading
from collections.abc import Callable
from typing import Final

from common.clock import Clock
from common.errors import AccessDeniedError, CertificateError, StoreError
from target_appliance.identity.authn import Identity

ASK_SECONDS: Final = 5.0
"""Between two questions: a call outlives its caller's right by no more."""
_TRUST_SECONDS: Final = 45.0
"""How long an answer holds when the catalog does not give another one: revocation is to reach a stream in 60 s."""


class Standing:
    """One call's. Methods may be called from any thread.

    Args:
        ask: the caller's identity as of now; raises CertificateError or AccessDeniedError.
        clock: for how old an answer is.

    Raises:
        CertificateError, AccessDeniedError: it is not let in.
        StoreError: nobody can say.
    """

    def __init__(self, ask: Callable[[], Identity], clock: Clock) -> None:
        self.identity = ask()
        self._ask = ask
        self._clock = clock
        self._asked = self._confirmed = clock.monotonic()
        self._refusal: CertificateError | AccessDeniedError | None = None
        self._lock = threading.Lock()

    def require(self) -> None:
        """Return while the caller is let in; asks anew when the last answer is ASK_SECONDS old.

        Raises:
            CertificateError, AccessDeniedError: it is not any more.
            StoreError: nobody has been able to say for long.
        """
        with self._lock:
            now = self._clock.monotonic()
            if self._refusal is None and now - self._asked >= ASK_SECONDS:
                self._asked = now
                self._renew(now)
            if self._refusal is not None:
                raise self._refusal

    def _renew(self, now: float) -> None:
        try:
            self._ask()
            self._confirmed = now
        except (CertificateError, AccessDeniedError) as error:
            self._refusal = error
        except StoreError:
            if now - self._confirmed >= _TRUST_SECONDS:
                raise

"""One logged-in session with a token, with a deadline around a library that knows none.

Nobody enters a library while somebody is in it, through whichever token: a process with two threads in SoftHSM ended
with a segmentation fault. Each call runs on a thread of its own, because nothing ends one that hangs; until it comes
back, everybody else is refused.
"""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

import pkcs11

from common import log
from common.errors import ConfigError, KmsUnavailableError
from target_appliance.config import Pkcs11Settings

T = TypeVar("T")
_log = log.get("kms")

LOST: Final = (
    pkcs11.SessionHandleInvalid,
    pkcs11.SessionClosed,
    pkcs11.UserNotLoggedIn,
    pkcs11.DeviceRemoved,
    pkcs11.DeviceError,
    pkcs11.TokenNotPresent,
    pkcs11.KeyHandleInvalid,
    pkcs11.ObjectHandleInvalid,
)
"""What a new session may cure."""

_WRONG_PIN: Final = (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange, pkcs11.PinLocked, pkcs11.PinExpired)


class HiddenError(Exception):
    """The token answers, but does not show what must be there: the login is gone, or what the library knew of it."""


class _Login:
    """What one session needs; left to the thread that hangs in it."""

    session: Any = None
    abandoned: bool = False


class _Gate:
    """Before one library of this process."""

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.hanging: threading.Thread | None = None

    def free(self, seconds: float = 0.0) -> bool:
        """Whether nobody is left behind in the library, after ``seconds`` at most. The turn is the caller's."""
        if self.hanging is not None:
            self.hanging.join(seconds)
            if self.hanging.is_alive():
                return False
            self.hanging = None
        return True


_GATES: Final[dict[str, _Gate]] = {}
"""By path of the library."""


class Token:
    """See the module. Thread-safe.

    Args:
        settings: module, token and where its PIN lies.
        read_pin: asked at each login, so that a PIN may be changed.
        seconds: for a whole call, login included.
        load: makes the library of its path.
    """

    def __init__(
        self,
        settings: Pkcs11Settings,
        read_pin: Callable[[], str],
        seconds: float,
        load: Callable[[str], Any] = pkcs11.lib,
    ) -> None:
        self.name = f"pkcs11 token {settings.token_label} of {settings.module.name}"
        self._settings = settings
        self._read_pin = read_pin
        self._seconds = seconds
        self._load = load
        self._gate = _GATES.setdefault(str(settings.module.resolve()), _Gate())
        self._login = _Login()
        self._refused_pin: str | None = None

    def call(self, use: Callable[[Any], T]) -> T:
        """What ``use`` makes of a session; it is called again with a new one if that was lost.

        Raises:
            KmsUnavailableError: the token cannot be reached, or does not answer in time.
            ConfigError: the library cannot be loaded, or the PIN cannot be read.
            pkcs11.PKCS11Error: the token said no; the session is as good as before.
        """
        if not self._gate.turn.acquire(timeout=self._seconds):
            raise self.unavailable("does not answer in time")
        try:
            if not self._gate.free():
                raise self.unavailable("does not come back from an earlier call")
            return self._with_deadline(use)
        finally:
            self._gate.turn.release()

    def close(self) -> None:
        """Log out, unless the library does not come back; never raises."""
        if self._gate.turn.acquire(timeout=self._seconds):
            try:
                if self._gate.free(self._seconds):
                    _drop(self._login)
            finally:
                self._gate.turn.release()

    def unavailable(self, what: str) -> KmsUnavailableError:
        """The error for a token that ``what``."""
        return KmsUnavailableError(
            f"the KMS {self.name} {what}",
            subject=f"kms {self.name}",
            next_step="check the HSM, its client software and the PIN; after a restart of the client software restart "
            "the appliance too",
        )

    def _with_deadline(self, use: Callable[[Any], T]) -> T:
        login, future = self._login, Future[T]()

        def work() -> None:
            try:
                future.set_result(self._twice(login, use))
            except BaseException as error:  # noqa: BLE001  handed over whole to the thread that waits
                future.set_exception(error)
            if login.abandoned:
                _drop(login)

        thread = threading.Thread(target=work, name="pkcs11", daemon=True)
        thread.start()
        try:
            return future.result(self._seconds)
        except TimeoutError:
            self._gate.hanging = thread
            login.abandoned = True
            self._login = _Login()
            raise self.unavailable("does not answer in time") from None

    def _twice(self, login: _Login, use: Callable[[Any], T]) -> T:
        for last in (False, True):
            if login.session is None:
                login.session = self._open()
            try:
                return use(login.session)
            except (*LOST, HiddenError) as error:
                _drop(login)
                reason = describe(error)
                if last:
                    raise self.unavailable(f"lost its session again at once ({reason})") from None
                _log.debug("PKCS#11 session lost", kms=self.name, cause=reason)
        raise AssertionError("not reached")

    def _open(self) -> Any:
        try:
            library = self._load(str(self._settings.module))
        except RuntimeError as error:
            raise ConfigError(
                f"the PKCS#11 module {self._settings.module} cannot be loaded ({describe(error)})",
                subject=f"file {self._settings.module}",
                next_step="name the library that came with the HSM's client software, and check its own configuration",
            ) from None
        try:
            token = library.get_token(token_label=self._settings.token_label)
            return self._logged_in(token)
        except pkcs11.NoSuchToken:
            raise self.unavailable("is not there: no slot shows a token of this label") from None
        except pkcs11.MultipleTokensReturned:
            raise self.unavailable("is not alone: several tokens have this label") from None
        except pkcs11.PKCS11Error as error:
            raise self.unavailable(f"takes no login ({describe(error)})") from None

    def _logged_in(self, token: Any) -> Any:
        pin = self._read_pin()
        if pin == self._refused_pin:
            # Tokens lock themselves after a few wrong PINs, and health checks would spend those within a minute.
            raise self.unavailable("refused this PIN before, so it is not tried again until it is changed")
        try:
            session = token.open(rw=True, user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:  # by another user of the library in this process
            session = token.open(rw=True)
        except _WRONG_PIN as error:
            self._refused_pin = pin
            raise self.unavailable(f"refuses the PIN ({describe(error)})") from None
        self._refused_pin = None
        return session


def describe(error: Exception) -> str:
    """An error of the library for people: most bear no text, and a name that tells."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _drop(login: _Login) -> None:
    session, login.session = login.session, None
    if session is not None:
        with contextlib.suppress(pkcs11.PKCS11Error):
            session.close()

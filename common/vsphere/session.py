"""One logged-in session: what is sent once, what may be sent again, and how it logs in.

pyVmomi's session stub sends any call again after a socket error, snapshot creation included, so it is not used. Here
a *read* is repeated once after a lost session or connection; a *mutation* goes out once, over a fresh connection (a
pooled one may have been closed by the other side, which looks like a lost answer), after a read has shown that the
session lives.
"""

import functools
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any, TypeVar

from pyVmomi import SoapAdapter, VmomiSupport, vim, vmodl

from common.errors import KeysapartError, SourceError
from common.vsphere.faults import Row, at_side, translate
from common.vsphere.settings import PinnedConnection, VCenterSettings, read_password, tls_context

T = TypeVar("T")

_FIRST_VERSION = "vim25/5.5"
_OLDEST = (6, 5)
_RELEASE_PARTS = 4


def _release(text: str) -> tuple[int, ...]:
    """``8.0.3.0`` as numbers, padded; empty for anything else."""
    parts = text.split(".")
    if not all(part.isdecimal() for part in parts):
        return ()
    return tuple(int(part) for part in parts) + (0,) * (_RELEASE_PARTS - len(parts))


def best_version(server: str) -> str | None:
    """Key of pyVmomi's newest API version that a server of version ``server`` speaks; None below 6.5."""
    limit = _release(server)
    if limit[:2] < _OLDEST:
        return None
    known = [
        (release, key)
        for key in VmomiSupport.versionMap
        if key.startswith("vim25/") and (release := _release(key.removeprefix("vim25/"))) and release <= limit
    ]
    return str(max(known)[1])


class Session:
    """A login to a vCenter; methods may be called from any thread. Not logged in until first used."""

    def __init__(self, settings: VCenterSettings) -> None:
        self.settings = settings
        self._lock = threading.RLock()
        self._logins = 0
        self._content: Any = None
        self._stub = SoapAdapter.SoapStubAdapter(
            host=settings.host,
            port=settings.port,
            version=VmomiSupport.versionMap[_FIRST_VERSION],
            sslContext=tls_context(settings),
            httpConnectionTimeout=settings.timeout_seconds,
        )
        if settings.pin:
            self._stub.scheme = functools.partial(PinnedConnection, pin=settings.pin)

    @property
    def content(self) -> Any:
        """The service content; log in first if need be. For use inside ``read`` and ``mutate`` callbacks."""
        if self._content is None:
            self._log_in(self._logins)
        return self._content

    def log_in(self) -> None:
        """Log in now, if nobody has.

        Raises:
            KeysapartError: by the table in faults.py.
        """
        self.read("logging in to the vCenter", self.settings.subject, lambda: self.content)

    def key(self) -> str:
        """The session's own key, for calls that ask for it. For use inside ``read`` callbacks.

        Raises:
            vim.fault.NotAuthenticated: the session is gone.
        """
        content = self.content
        query = vmodl.query.PropertyCollector
        spec = query.FilterSpec(
            objectSet=[query.ObjectSpec(obj=content.sessionManager)],
            propSet=[query.PropertySpec(type=vim.SessionManager, pathSet=["currentSession"])],
        )
        answer = content.propertyCollector.RetrievePropertiesEx([spec], query.RetrieveOptions())
        for found in answer.objects if answer is not None else []:
            for pair in found.propSet or []:
                return str(pair.val.key)
        raise vim.fault.NotAuthenticated(msg="the session is gone")

    def reference(self, kind: Callable[[str, Any], T], moref: str) -> T:
        """A managed object by its moref, without asking the vCenter."""
        return kind(moref, self._stub)

    def read(
        self,
        what: str,
        subject: str,
        call: Callable[[], T],
        overrides: Mapping[type[BaseException], Row] | None = None,
    ) -> T:
        """The result of ``call``, which changes nothing; repeated once after a lost login or connection.

        Raises:
            KeysapartError: by the table in faults.py, with ``overrides``.
        """
        try:
            return self._reconnected(self._authenticated(call))
        except Exception as error:
            raise self._translated(error, what, subject, overrides) from error

    def mutate(self, what: str, subject: str, call: Callable[[], T]) -> T:
        """The result of ``call``, which changes something and is sent at most once.

        Raises:
            SourceUnavailableError: the outcome may be unknown; look before doing it again.
            KeysapartError: by the table in faults.py.
        """
        self.read(what, subject, self.key)
        self._stub.DropConnections()
        try:
            return call()
        except Exception as error:
            raise self._translated(error, what, subject) from error

    def close(self) -> None:
        """Log out as far as the vCenter can be reached, and close all connections; never raises."""
        with self._lock:
            content, self._content = self._content, None
            try:
                if content is not None:
                    content.sessionManager.Logout()
            except Exception:  # noqa: BLE001, S110  # a session that cannot be ended lapses by itself
                pass
            finally:
                self._stub.DropConnections()

    def _translated(
        self, error: Exception, what: str, subject: str, overrides: Mapping[type[BaseException], Row] | None = None
    ) -> KeysapartError:
        address = f"{self.settings.host}:{self.settings.port}"
        return translate(error, what, subject, overrides, address=address, side=self.settings.side)

    def _authenticated(self, call: Callable[[], T]) -> Callable[[], T]:
        def again() -> T:
            logins = self._logins
            try:
                return call()
            except vim.fault.NotAuthenticated:
                self._log_in(logins)
            return call()

        return again

    def _reconnected(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (OSError, HTTPException):
            self._stub.DropConnections()
        return call()

    def _log_in(self, seen: int) -> None:
        """Log in, unless another thread did since ``seen`` logins were counted."""
        with self._lock:
            if self._content is not None and self._logins != seen:
                return
            service: Any = vim.ServiceInstance("ServiceInstance", self._stub)
            content = service.RetrieveContent()
            version = best_version(content.about.apiVersion or "")
            if version is None:
                raise at_side(SourceError, self.settings.side)(
                    f"the vCenter speaks API version {content.about.apiVersion!a}, 6.5 is the oldest that will do",
                    subject=self.settings.subject,
                    next_step="upgrade the vCenter",
                )
            self._stub.ComputeVersionInfo(VmomiSupport.versionMap[version])
            content = service.RetrieveContent()
            content.sessionManager.Login(self.settings.user, read_password(self.settings.password_file), None)
            self._content = content
            self._logins += 1

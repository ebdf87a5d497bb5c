"""A session of the vCenter's REST API, which alone knows tags: trust and login are those of the SOAP session.

Releases from 7.0U2 on serve it at ``/api``, older ones at ``/rest``, with other paths and every answer in an envelope.
Whatever is asked here changes nothing, so it may be asked again after a lost connection or login.
"""

import base64
import contextlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from common.errors import AccessDeniedError, KeysapartError, NotFoundError, SourceError, SourceUnavailableError
from common.vsphere.faults import translate
from common.vsphere.settings import PinnedConnection, VCenterSettings, read_password, tls_context

_MOST_BYTES: Final = 64 << 20
"""Of one answer; the VMs of a tag take some 60 bytes each."""
_OK: Final = range(200, 300)
_UNAUTHENTICATED, _FORBIDDEN, _NOT_FOUND, _BROKEN = 401, 403, 404, range(500, 600)
_NOT_THERE: Final = frozenset({400, 404, 405})
"""How a release answers at the other kind's session endpoint."""


class _Api(NamedTuple):
    """Where one of the two kinds has its things."""

    session: str
    tagging: str
    by_id: str
    action: str
    enveloped: bool


_APIS: Final = (
    _Api("/api/session", "/api/cis/tagging/", "/", "action", enveloped=False),
    _Api("/rest/com/vmware/cis/session", "/rest/com/vmware/cis/tagging/", "/id:", "~action", enveloped=True),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One question about tags."""

    kind: str
    """category, tag or tag-association."""
    of: str = ""
    """Id of the one that is asked about."""
    action: str = ""
    body: Mapping[str, Any] | None = None

    def spelled(self, api: _Api) -> tuple[str, str, Mapping[str, Any] | None]:
        """Method, target and body."""
        target, body = api.tagging + self.kind, self.body
        if self.of and self.action and not api.enveloped:
            body = {f"{'category' if self.kind == 'tag' else self.kind}_id": self.of}
        elif self.of:
            target += api.by_id + quote(self.of, safe=":")
        if not self.action:
            return "GET", target, None
        return "POST", f"{target}?{api.action}={self.action}", body


class Rest:
    """See the module; methods may be called from any thread. Not logged in until first used."""

    def __init__(self, settings: VCenterSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._connection: HTTPSConnection | None = None
        self._token = ""
        self._api = _APIS[0]

    def ask(self, what: str, call: Call) -> Any:
        """The answer, without its envelope; logs in anew once.

        Raises:
            NotFoundError: what is asked about is gone.
            KeysapartError: as VSphere's methods do.
        """
        with self._lock:
            try:
                return self._ask(what, call)
            except Exception as error:
                address = f"{self._settings.host}:{self._settings.port}"
                raise translate(error, what, self._settings.subject, address=address) from error

    def close(self) -> None:
        """Log out as far as the vCenter can be reached; never raises."""
        with self._lock:
            try:
                if self._token:
                    self._send("DELETE", self._api.session, {"vmware-api-session-id": self._token})
            except Exception:  # noqa: BLE001, S110  # a session that cannot be ended lapses by itself
                pass
            finally:
                self._token = ""
                self._hang_up()

    def _ask(self, what: str, call: Call) -> Any:
        fresh = not self._token
        if fresh:
            self._log_in(what)
        status, answer = self._call(call)
        if status == _UNAUTHENTICATED and not fresh:
            self._log_in(what)
            status, answer = self._call(call)
        if status not in _OK:
            raise self._refusal(status, what)
        return self._opened(answer)

    def _call(self, call: Call) -> tuple[int, bytes]:
        method, target, body = call.spelled(self._api)
        return self._resend(method, target, {"vmware-api-session-id": self._token}, body)

    def _log_in(self, what: str) -> None:
        self._token = ""
        login = f"{self._settings.user}:{read_password(self._settings.password_file)}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(login).decode('ascii')}"}
        for api in _APIS:
            status, answer = self._resend("POST", api.session, headers)
            if status in _OK:
                self._api = api
                self._token = str(self._opened(answer))
                return
            if status not in _NOT_THERE:
                raise self._refusal(status, what)
        raise SourceError(
            f"{what} failed (the vCenter has no REST API, it answers {status} to a login)",
            subject=self._settings.subject,
            next_step="start the vCenter's services vapi-endpoint and rhttpproxy, or select VMs without tags",
        )

    def _opened(self, answer: bytes) -> Any:
        read = json.loads(answer) if answer else None
        return read.get("value") if self._api.enveloped and isinstance(read, dict) else read

    def _refusal(self, status: int, what: str) -> KeysapartError:
        kind: type[KeysapartError] = SourceError
        step = "look at the vCenter's log, and report this with the agent's log"
        if status == _UNAUTHENTICATED:
            kind, step = AccessDeniedError, "check user and password_file in the [vcenter] section"
        elif status == _FORBIDDEN:
            kind, step = AccessDeniedError, "let the agent's user read tags, as docs/privileges.md says"
        elif status == _NOT_FOUND:
            kind, step = NotFoundError, "run the command again, it reads the tags anew"
        elif status in _BROKEN:
            kind, step = SourceUnavailableError, "check that the vCenter's service vapi-endpoint runs"
        return kind(f"{what} failed (the vCenter answers {status})", subject=self._settings.subject, next_step=step)

    # The wire.

    def _resend(
        self, method: str, target: str, headers: Mapping[str, str], body: Mapping[str, Any] | None = None
    ) -> tuple[int, bytes]:
        """Send, and once more over another connection when the one at hand is broken."""
        try:
            return self._send(method, target, headers, body)
        except (OSError, HTTPException):
            self._hang_up()
        try:
            return self._send(method, target, headers, body)
        except BaseException:
            self._hang_up()
            raise

    def _send(
        self, method: str, target: str, headers: Mapping[str, str], body: Mapping[str, Any] | None = None
    ) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = self._connect()
        told = {"Accept": "application/json", "Content-Type": "application/json", **headers}
        data = None if body is None else json.dumps(body).encode()
        self._connection.request(method, target, data, told)
        with self._connection.getresponse() as response:
            answer = response.read(_MOST_BYTES + 1)
            if len(answer) > _MOST_BYTES:
                self._hang_up()
                raise HTTPException(f"an answer of more than {_MOST_BYTES} bytes")
            return response.status, answer

    def _connect(self) -> HTTPSConnection:
        at = self._settings
        context = tls_context(at)
        if at.pin:
            return PinnedConnection(at.host, at.port, timeout=at.timeout_seconds, context=context, pin=at.pin)
        return HTTPSConnection(at.host, at.port, timeout=at.timeout_seconds, context=context)

    def _hang_up(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

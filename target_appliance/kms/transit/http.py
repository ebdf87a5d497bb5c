"""HTTP/1.1 requests with a token to bytes, and answers from bytes. No input or output."""

import http.client
import io
import json
import re
from dataclasses import dataclass
from typing import Any, Final, cast

from target_appliance.kms.link.connection import BrokenError, GarbledError, Receive

_LONGEST_ANSWER: Final = 1 << 20
_LONGEST_REASON: Final = 200
_MAY_BE_SECRET: Final = re.compile(r"[^\s\"]{32,}")
"""Tokens and keys are long words: a server may quote what it was sent, and its reasons are logged."""
_ANOTHER_MAY_ANSWER: Final = frozenset({429, 472, 473})
"""Too many requests, standby nodes."""


class RefusedError(Exception):
    """The server answered, and said no."""

    def __init__(self, status: int, reasons: tuple[str, ...]) -> None:
        super().__init__(f"{status} {', '.join(reasons)}".strip())
        self.status = status
        self.absent = status == http.HTTPStatus.NOT_FOUND and not reasons
        """What the path names is not there. A mount that is missing is told in words instead."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What every request says."""

    host: str
    namespace: str | None

    def request(self, token: str, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        """One whole request.

        Args:
            token: printable ASCII.
            method: HTTP's.
            path: below ``/v1/``, quoted.
            body: members of its JSON.
        """
        content = b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{method} /v1/{path} HTTP/1.1",
            f"Host: {self.host}",
            f"X-Vault-Token: {token}",
            "X-Vault-Request: true",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
        ]
        if self.namespace is not None:
            lines.append(f"X-Vault-Namespace: {self.namespace}")
        return "\r\n".join((*lines, "", "")).encode("ascii") + content


def read_answer(receive: Receive) -> dict[str, Any]:
    """The ``data`` of an answer; empty where it has none.

    Raises:
        RefusedError: the server said no.
        BrokenError: this server cannot answer now (sealed, standby, failing), another might.
        GarbledError: the answer is not what Vault's API is.
    """
    response = http.client.HTTPResponse(cast("Any", _Socket(receive)))
    try:
        response.begin()
        content = response.read(_LONGEST_ANSWER + 1)
    except (http.client.HTTPException, ValueError) as error:
        raise GarbledError(f"its answer is not HTTP ({type(error).__name__})") from None
    if len(content) > _LONGEST_ANSWER:
        raise GarbledError("its answer is too long")
    status = response.status
    members = _members(content)
    if status in _ANOTHER_MAY_ANSWER or status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        raise BrokenError(f"it answers {status} {', '.join(_reasons(members))}".strip())
    if status >= http.HTTPStatus.MULTIPLE_CHOICES:
        if members is None:
            raise GarbledError(f"its answer, {status}, is not of the API of OpenBao and Vault")
        raise RefusedError(status, _reasons(members))
    if status == http.HTTPStatus.NO_CONTENT:
        return {}
    if members is None or not isinstance(members.get("data"), dict):
        raise GarbledError("its answer is not of the API of OpenBao and Vault")
    data: dict[str, Any] = members["data"]
    return data


def _members(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _reasons(members: dict[str, Any] | None) -> tuple[str, ...]:
    errors = (members or {}).get("errors")
    told = (str(error) for error in errors) if isinstance(errors, list) else ()
    plain = (_MAY_BE_SECRET.sub("…", " ".join(text.split())) for text in told)
    return tuple("".join(c for c in text if c.isprintable())[:_LONGEST_REASON] for text in plain)


class _Socket:
    """As much of a socket as http.client reads answers from."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Stream(self._receive))


class _Stream(io.RawIOBase):
    def __init__(self, receive: Receive) -> None:
        super().__init__()
        self._receive = receive

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._receive(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

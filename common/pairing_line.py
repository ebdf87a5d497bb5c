"""The one line that an appliance's operator hands to an agent's: where, with which token, and whom to believe.

``keysapart1/HOST:PORT/TOKEN/FINGERPRINT/SUM``: no white space and no character that a shell, a mail or a chat changes.
Token and fingerprint are 32 bytes each in URL-safe base64 without padding; the fingerprint is the SHA-256 of the
authority's certificate (DER). The sum tells a line that was cut or mistyped without asking anybody.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from common.address import HostPort, check
from common.errors import InvalidInputError

TOKEN_BYTES: Final = 32
_KIND: Final = "keysapart1"
_SUM_BYTES: Final = 6
_MOST: Final = 1024
_BLANK: Final = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class PairingLine:
    """What the line says. The token is a secret; it is in no ``repr``."""

    address: HostPort
    """Of the appliance's enrolment port."""
    token: bytes = field(repr=False)
    fingerprint: bytes
    """SHA-256 of the authority's certificate."""

    def text(self) -> str:
        """The line."""
        head = f"{_KIND}/{self.address}/{_coded(self.token)}/{_coded(self.fingerprint)}"
        return f"{head}/{_sum(head)}"


def parse(text: str) -> PairingLine:
    """The line in ``text``; line breaks and blanks that a mail put in are taken out.

    Raises:
        InvalidInputError: it is none, or was changed on the way. The text is not shown: it holds the token.
    """
    text = _BLANK.sub("", text)
    head, _, its_sum = text[:_MOST].rpartition("/")
    match head.split("/"):
        case [kind, address, token, fingerprint] if kind == _KIND:
            if len(text) > _MOST or its_sum != _sum(head):
                raise _refused("was cut or changed on the way")
            try:
                line = PairingLine(check(address), _decoded(token), _decoded(fingerprint))
            except ValueError:
                raise _refused("is malformed") from None
            if len(line.token) == len(line.fingerprint) == TOKEN_BYTES:
                return line
            raise _refused("is malformed")
        case _:
            raise _refused("is none, or only a part of one")


def _coded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _sum(head: str) -> str:
    return _coded(hashlib.sha256(head.encode(errors="replace")).digest()[:_SUM_BYTES])


def _refused(why: str) -> InvalidInputError:
    return InvalidInputError(
        f"the pairing line {why}",
        subject="pairing line",
        next_step="copy the whole line that target-appliance tenants add or agents add printed",
    )

"""``host:port`` in configuration files: checked once, taken apart where a socket is made."""

import re
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator

from common.errors import InvalidInputError

_HOST_PORT = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):([0-9]{1,5})")


def check(text: str) -> str:
    """``text``, if it is ``host:port``. Raises ValueError."""
    match = _HOST_PORT.fullmatch(text)
    if match is None or int(match[1]) > 0xFFFF:
        raise ValueError("should be host:port, with an IPv6 address in brackets")
    return text


def checked(text: str, subject: str) -> str:
    """The same for what a person typed as ``subject``. Raises InvalidInputError."""
    try:
        return check(text)
    except ValueError as error:
        raise InvalidInputError(f"{text[:80]!a} {error}", subject=subject, next_step="give it as host:port") from None


HostPort = Annotated[str, AfterValidator(check)]
"""A checked ``host:port`` or ``[v6]:port``."""


def loopback(text: str) -> str:
    """A checked ``host:port``, if only this machine can reach it. Raises ValueError."""
    host, _ = split(text)
    if host != "localhost":
        try:
            inside = ip_address(host).is_loopback
        except ValueError:
            inside = False
        if not inside:
            raise ValueError("should be on loopback, because whoever reaches it is told everything")
    return text


Loopback = Annotated[HostPort, AfterValidator(loopback)]
"""A checked ``host:port`` of this machine alone."""


def split(address: HostPort) -> tuple[str, int]:
    """Host (IPv6 without its brackets) and port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)

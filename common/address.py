"""``host:port`` in configuration files: checked once, taken apart where a socket is made."""

import re
from typing import Annotated

from pydantic import AfterValidator

_HOST_PORT = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[^\s:\[\]]+):([0-9]{1,5})")


def _check(text: str) -> str:
    match = _HOST_PORT.fullmatch(text)
    if match is None or int(match[1]) > 0xFFFF:
        raise ValueError("should be host:port, with an IPv6 address in brackets")
    return text


HostPort = Annotated[str, AfterValidator(_check)]
"""A checked ``host:port`` or ``[v6]:port``."""


def split(address: HostPort) -> tuple[str, int]:
    """Host (IPv6 without its brackets) and port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)

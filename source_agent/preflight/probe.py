"""Whether a host's ports can be reached from here."""

import socket
from collections.abc import Iterable

PROBE_SECONDS = 3.0
"""How long a connection may take; a port that is filtered answers never."""


def unreachable(host: str, ports: Iterable[int], seconds: float = PROBE_SECONDS) -> tuple[str, ...]:
    """``host:port (why)`` for each of the ports that takes no TCP connection."""
    found = []
    for port in ports:
        try:
            socket.create_connection((host, port), timeout=seconds).close()
        except OSError as error:
            found.append(f"{host}:{port} ({error.strerror or str(error) or type(error).__name__})")
    return tuple(found)

"""systemd's notification protocol: a datagram of ``KEY=VALUE`` lines to the socket that the environment names."""

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

_SECONDS = 1.0
"""A manager that does not read must not hold the agent up."""


class Notify:
    """Tells the service manager; does nothing where there is none.

    Args:
        environment: where ``NOTIFY_SOCKET``, ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` are; the process's own by default.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        found = os.environ if environment is None else environment
        address = found.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an abstract name.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        micros = found.get("WATCHDOG_USEC", "")
        mine = found.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self._watched = mine and micros.isdecimal()

    def tell(self, **values: str) -> None:
        """Send, such as ``tell(READY="1")``; a manager that does not listen is no failure."""
        if not self._address:
            return
        text = "\n".join(f"{key}={value}" for key, value in values.items())
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.settimeout(_SECONDS)
            out.sendto(text.encode(), self._address)

    def beat(self) -> None:
        """Still alive, where the manager watches for it."""
        if self._watched:
            self.tell(WATCHDOG="1")

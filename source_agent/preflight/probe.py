"""Whether hosts' ports can be reached from here: each asked once, several at a time."""

import socket
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from common.clock import Clock

PROBE_SECONDS = 3.0
"""How long a connection may take; a port that is filtered answers never."""

RUN_SECONDS = 30.0
"""How long one round may take: what has not begun by then is not tried."""

AT_ONCE = 16

Door = tuple[str, int]
"""A host as it is dialled, and a port of it."""

Dial = Callable[[str, int, float], None]
"""Connects to a host's port within so many seconds, and hangs up; raises OSError when that fails."""


def tcp(host: str, port: int, seconds: float) -> None:
    """See Dial."""
    socket.create_connection((host, port), timeout=seconds).close()


class Probe:
    """Remembers what it found, so that many VMs on few hosts cost no more than the hosts. Safe for threads."""

    def __init__(self, clock: Clock, dial: Dial = tcp) -> None:
        self._clock = clock
        self._dial = dial
        self._known: dict[Door, str] = {}
        self._lock = threading.Lock()

    def shut(self, doors: Iterable[Door]) -> Mapping[Door, str]:
        """Why, of each of the doors that takes no connection."""
        asked = list(dict.fromkeys(doors))
        with self._lock:
            new = [door for door in asked if door not in self._known]
            if new:
                deadline = self._clock.monotonic() + RUN_SECONDS
                with ThreadPoolExecutor(min(AT_ONCE, len(new)), "probe") as pool:
                    self._known |= zip(new, pool.map(lambda door: self._try(door, deadline), new), strict=True)
            return {door: self._known[door] for door in asked if self._known[door]}

    def _try(self, door: Door, deadline: float) -> str:
        """Empty when it is open."""
        if self._clock.monotonic() >= deadline:
            return "not tried, others took too long"
        try:
            self._dial(*door, PROBE_SECONDS)
        except OSError as error:
            return error.strerror or str(error) or type(error).__name__
        return ""

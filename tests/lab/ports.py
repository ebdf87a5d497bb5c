"""TCP ports that stay ours for a lab's life, also while nothing listens on them.

A server that is stopped and started again must come back on the port that the configuration files name, and several
labs run side by side. So a port is taken from below the range that the kernel hands out by itself, and owned through
a lock on a file that all labs of a user share; a crash drops the lock.
"""

import contextlib
import fcntl
import os
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.lab.errors import PortError

FIRST, LAST = 20_000, 32_000


@contextlib.contextmanager
def reserved(count: int) -> Iterator[list[int]]:
    """``count`` different loopback ports, held until the context ends."""
    with contextlib.ExitStack() as held:
        yield [_take(held) for _ in range(count)]


def _take(held: contextlib.ExitStack) -> int:
    # One folder a user: what root's labs made, nobody else's could open.
    folder = Path(tempfile.gettempdir()) / f"keysapart-lab-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # Random order, since labs that start together would otherwise all try the same ports first.
    for port in random.SystemRandom().sample(range(FIRST, LAST), 500):
        handle = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        if _bindable(port):
            held.callback(os.close, handle)
            return port
        os.close(handle)
    raise PortError(f"none of 500 ports between {FIRST} and {LAST} is free on 127.0.0.1")


def _bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True

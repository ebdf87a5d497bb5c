"""A relay that can hold the agent's bytes back in the middle of a sync, so that a test acts at that very moment."""

import contextlib
import socket
import threading
from collections.abc import Iterator

from tests.end_to_end.relay import Relay, aside
from tests.end_to_end.waiting import until
from tests.lab.site import Lab

_CHUNK = 1 << 16


class Gate(Relay):
    """Passes everything on until told to hold; what goes from target to agent always passes."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._limit: int | None = None
        self._held = threading.Event()
        self._go = threading.Event()

    def hold_after(self, count: int) -> None:
        """Hold back whatever follows the next ``count`` bytes of the agent's."""
        self._held.clear()
        self._go.clear()
        with self._lock:
            self._limit = self.to_target + count

    def wait_held(self) -> None:
        """Return when bytes are being held back."""
        until("the sync is in its middle", self._held.is_set, 60)

    def release(self) -> None:
        """Let everything pass."""
        with self._lock:
            self._limit = None
        self._go.set()

    def _pass(self, source: socket.socket, sink: socket.socket, outward: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if outward:
                    with self._lock:
                        self.to_target += len(data)
                        hold = self._limit is not None and self.to_target > self._limit
                    if hold:
                        self._held.set()
                        self._go.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def gated(lab: Lab) -> Iterator[Gate]:
    """The lab's agent speaks through a gate for the length of the block."""
    with Gate(lab.data_port) as gate, aside(lab, gate):
        yield gate

"""A relay that holds every connection back in the middle of its sync, however many there are."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.end_to_end.relay import Relay, aside
from tests.end_to_end.waiting import until
from tests.lab.site import Lab

_CHUNK = 1 << 16


@dataclass
class _Order:
    """To hold each connection after so many bytes of the agent's."""

    count: int
    held: int = 0
    over: threading.Event = field(default_factory=threading.Event)


class GateForEach(Relay):
    """Passes everything on until told to hold; connections that send little, such as a renewal's, always pass."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._order = _Order(0)
        self._order.over.set()

    def hold_each_after(self, count: int) -> None:
        """Hold back, on each connection by itself, whatever follows its next ``count`` bytes of the agent's."""
        self._order = _Order(count)

    def wait_held(self, connections: int) -> None:
        """Return when so many are being held back: all of their ``count`` bytes have gone on to the appliance."""
        until(f"{connections} syncs are in their middle", lambda: self._order.held == connections, 60)

    def release(self) -> None:
        """Let everything pass."""
        self._order.over.set()

    def _pass(self, source: socket.socket, sink: socket.socket, outward: bool) -> None:
        if not outward:
            super()._pass(source, sink, outward)
            return
        order, left = self._order, self._order.count
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if order is not self._order:
                    order, left = self._order, self._order.count
                if not order.over.is_set():
                    sink.sendall(data[:left])
                    data, left = data[left:], max(0, left - len(data))
                    if data:
                        with self._lock:
                            order.held += 1
                        order.over.wait()
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def gated_each(lab: Lab) -> Iterator[GateForEach]:
    """The lab's agent speaks through such a gate for the length of the block."""
    with GateForEach(lab.data_port) as gate, aside(lab, gate):
        yield gate

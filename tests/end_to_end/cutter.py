"""A relay whose link dies again and again: after so many bytes both connections of the moment are gone."""

import contextlib
import socket
from collections.abc import Iterator

from tests.end_to_end.relay import Relay, aside
from tests.lab.site import Lab

_CHUNK = 1 << 14


class Cutter(Relay):
    """Cuts whatever is open whenever ``every`` more bytes of the agent's have passed; ``cuts`` counts.

    While it is down, whoever connects is hung up on; without ``rises`` the first cut is for good.
    """

    def __init__(self, target: int, every: int, *, rises: bool = True) -> None:
        super().__init__(target)
        self._every = every
        self._rises = rises
        self._left = every
        self.cuts = 0
        self.down = False

    def fall(self) -> None:
        """The link is gone until ``rise``."""
        self.down = True
        self._cut()

    def rise(self) -> None:
        """The link is there again."""
        self.down = False

    @property
    def passed(self) -> int:
        """Bytes that passed, both ways."""
        return self.to_target + self.from_target

    def _cut(self) -> None:
        self.cuts += 1
        self.down = self.down or not self._rises
        # Taken at once: who hangs up here connects anew at once, and is not of this cut.
        with self._lock:
            gone, self._open = self._open, []
        for one in gone:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _pass(self, source: socket.socket, sink: socket.socket, outward: bool) -> None:
        with contextlib.suppress(OSError):
            while not self.down and (data := source.recv(_CHUNK)):
                with self._lock:
                    if not outward:
                        self.from_target += len(data)
                        cut = False
                    else:
                        data = data[: self._left]
                        self.to_target += len(data)
                        self._left -= len(data)
                        if cut := self._left == 0:
                            self._left = self._every
                sink.sendall(data)
                if cut:
                    # What was left of the data is lost with this connection, so nothing may follow on it.
                    self._cut()
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextlib.contextmanager
def cut_link(lab: Lab, every: int, *, minutes: float, rises: bool = True) -> Iterator[Cutter]:
    """The lab's agent speaks over a link that is cut ``every`` so many bytes, and waits so many ``minutes`` for it."""
    patience = ("unreachable_minutes = 0", f"unreachable_minutes = {minutes}")
    with Cutter(lab.data_port, every, rises=rises) as link, aside(lab, link, patience):
        yield link

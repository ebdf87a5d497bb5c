"""A TCP relay between agent and appliance that counts, and if asked keeps, every byte that passes."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from tests.lab.site import Lab

_CHUNK = 1 << 16


class Relay:
    """Listens on a free loopback port and passes connections on to ``target``.

    Args:
        target: port of the appliance.
        keep: whether the bytes themselves are kept, in ``seen``.
    """

    def __init__(self, target: int, *, keep: bool = False) -> None:
        self._target = target
        self._keep = keep
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.connections = 0
        self.to_target = 0
        self.from_target = 0
        self.seen: list[bytes] = []
        self._flip_after: int | None = None

    def flip_after(self, count: int) -> None:
        """Alter one byte of what follows the next ``count`` bytes of the agent's."""
        with self._lock:
            self._flip_after = self.to_target + count

    def reset(self) -> None:
        """Begin to count anew."""
        with self._lock:
            self.to_target = self.from_target = 0
            self.seen = []

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
        # A close alone would not wake a thread that waits in accept or recv.
        for one in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        for thread in self._threads:
            thread.join(10)

    def release(self) -> None:
        """Let everything pass that is held back: here nothing."""

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self._target), timeout=10)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open += [near, far]
                self.connections += 1
            self._start(self._pass, near, far, True)
            self._start(self._pass, far, near, False)

    def _pass(self, source: socket.socket, sink: socket.socket, outward: bool) -> None:
        before = b""
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                with self._lock:
                    if outward:
                        self.to_target += len(data)
                        if self._flip_after is not None and self.to_target > self._flip_after:
                            self._flip_after = None
                            data = data[:-1] + bytes([data[-1] ^ 1])
                    else:
                        self.from_target += len(data)
                    if self._keep:
                        self.seen.append(before + data)
                        # What is looked for may lie across two chunks.
                        before = data[-1024:]
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def relayed(lab: Lab, *, keep: bool = False) -> Iterator[Relay]:
    """The lab's agent speaks through a relay for the length of the block."""
    with Relay(lab.data_port, keep=keep) as relay, aside(lab, relay):
        yield relay


@contextlib.contextmanager
def aside(lab: Lab, relay: Relay, *changes: tuple[str, str]) -> Iterator[None]:
    """The lab's agent is told the relay's address, and other words, for the length of the block."""
    before = after = lab.agent_toml.read_text()
    for old, new in ((f'"127.0.0.1:{lab.data_port}"', f'"127.0.0.1:{relay.port}"'), *changes):
        assert old in after
        after = after.replace(old, new)
    lab.agent_toml.write_text(after)
    try:
        yield
    finally:
        lab.agent_toml.write_text(before)

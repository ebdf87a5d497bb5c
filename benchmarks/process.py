"""Child processes with what they cost: peak resident memory, processor time, bytes over loopback.

Peak memory is the kernel's own high-water mark of the program that runs (VmHWM), sampled while it lives. The rusage
of a finished child would not do: it includes the parent's memory as it was at the fork.
"""

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Self

_SAMPLE_SECONDS = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")


class Child:
    """A process and, once it has ended, its figures. Ends the process on leaving the context."""

    def __init__(
        self, command: Sequence[str], log: Path, *, stdin: IO[bytes] | None = None, env: dict[str, str] | None = None
    ) -> None:
        self.command = list(command)
        self.log = log
        self.peak_bytes = 0
        self.processor_seconds = 0.0
        self._started = time.monotonic()
        self._seconds: float | None = None
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                self.command,
                stdin=stdin or subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=None if env is None else os.environ | env,
            )
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()

    def _sample(self) -> None:
        while self.process.returncode is None and self.read_proc():
            time.sleep(_SAMPLE_SECONDS)

    def read_proc(self) -> bool:
        """Take the figures of this moment; False when the process is gone."""
        try:
            status = Path(f"/proc/{self.process.pid}/status").read_text()
            stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        except OSError:
            return False
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self.peak_bytes = max(self.peak_bytes, int(line.split()[1]) * 1024)
        user, system = stat.rpartition(")")[2].split()[11:13]
        self.processor_seconds = (int(user) + int(system)) / _TICKS
        return True

    def finish(self, timeout: float = 1800) -> str:
        """Wait for the end; its standard output. Raises RuntimeError with the log's tail when it failed."""
        output, _ = self.process.communicate(timeout=timeout)
        self._seconds = time.monotonic() - self._started
        if self.process.returncode:
            raise RuntimeError(f"{' '.join(self.command)} ended with {self.process.returncode}: {self.tail()}")
        return output.decode()

    def tail(self) -> str:
        """The end of what it wrote to its log."""
        return self.log.read_text(errors="replace")[-2000:]

    @property
    def seconds(self) -> float:
        """From start to end."""
        if self._seconds is None:
            raise RuntimeError(f"{self.command[0]} has not ended yet")
        return self._seconds

    def read_line(self) -> str:
        """The next line of its standard output, without the newline."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def stop(self) -> None:
        """Ask it to end, and make it end."""
        self.read_proc()
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._watch.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


@dataclass
class Loopback:
    """Bytes that crossed the loopback interface, headers included."""

    sent: int = 0


@contextlib.contextmanager
def loopback() -> Iterator[Loopback]:
    """Counts while the body runs; anything else that this machine sends to itself counts too."""
    count = Loopback()
    before = _loopback_bytes()
    yield count
    count.sent = _loopback_bytes() - before


def _loopback_bytes() -> int:
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, figures = line.partition(":")
        if name.strip() == "lo":
            return int(figures.split()[8])
    return 0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for_port(port: int, server: Child, timeout: float = 60) -> None:
    """Until ``server`` listens on the port. Raises RuntimeError when it ends first, or takes too long."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{server.command[0]} does not listen on port {port}: {server.tail()}")

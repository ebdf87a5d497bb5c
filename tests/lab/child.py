"""A program that the lab runs: started, waited for, ended by its own process id.

Every child of the lab says ``ready`` (alone or in a JSON line) on standard output when it serves, and ends when its
standard input does, so that nothing is left behind when the lab itself is killed.
"""

import contextlib
import selectors
import signal
import subprocess
import time
from pathlib import Path

from tests.lab.errors import ChildError


class Child:
    """One running program.

    Args:
        command: program and arguments.
        log_file: where its standard error goes, appended.
        cwd: its working folder; None keeps ours.
        ready_within: seconds until its first line of standard output is due.
    """

    def __init__(self, command: list[str], log_file: Path, cwd: Path | None = None, ready_within: float = 30.0) -> None:
        self._log_file = log_file
        with log_file.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=cwd
            )
        self._deadline = time.monotonic() + ready_within

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def first_line(self) -> str:
        """Wait for the line that says it serves."""
        out = self._process.stdout
        assert out is not None
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            line = out.readline() if selector.select(max(0.0, self._deadline - time.monotonic())) else b""
        if not line:
            self.stop()
            tail = self._log_file.read_text(errors="replace").strip().splitlines()[-3:]
            raise ChildError(f"{self._process.args[0]} did not start: {' | '.join(tail) or 'it said nothing'}")
        return line.decode().strip()

    def stop(self) -> None:
        """End it: politely, then not; harmless when it has ended."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        if self.running:
            self._process.send_signal(signal.SIGCONT)
            self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Freeze it: connections are still taken by the kernel, and nothing is answered."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen one go on."""
        self._process.send_signal(signal.SIGCONT)

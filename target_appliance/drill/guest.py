"""A guest under qemu: started, watched until it shows what is waited for, photographed, ended."""

import contextlib
import json
import os
import resource
import selectors
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from common import log
from common.clock import Clock
from common.errors import PreconditionError
from target_appliance.drill.machine import (
    PROGRAM,
    UEFI_VARIABLES,
    Accelerator,
    Firmware,
    Handles,
    Machine,
    command,
    path_of,
)
from target_appliance.drill.memory_file import content_of, memory_file

_log = log.get("drill")

_LOOK_SECONDS: Final = 2.0
"""Between two looks at the screen."""
_ANSWER_SECONDS: Final = 60.0
_END_SECONDS: Final = 10.0
_KEPT_BYTES: Final = 64 << 10
"""Of what the guest says, to find words in."""
_LINE_MOST_BYTES: Final = 1 << 20


class EndedError(Exception):
    """qemu ended of itself."""


@dataclass(frozen=True, slots=True)
class Seen:
    """How a drill went."""

    came_up: bool
    seconds: float
    """From the guest's start to what was waited for, or to giving up."""
    accelerator: Accelerator
    picture: bytes
    """The screen at the end, PPM."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """What shows that the guest came up: words on its serial port, or a screen."""

    words: str | None
    screen: Callable[[bytes], bool] | None


@dataclass(frozen=True, slots=True)
class Drill:
    """One drill.

    Attributes:
        machine: what the guest gets.
        uri: where a disk's export is read, by its name.
        awaited: when the guest counts as up.
        seconds: how long it may take.
        write_most_bytes: how much the guest may write to each disk: it is held in memory.
        clock: for deadlines.
        stopped: asked often; True ends the drill.
    """

    machine: Machine
    uri: Callable[[str], str]
    awaited: Awaited
    seconds: float
    write_most_bytes: int
    clock: Clock
    stopped: Callable[[], bool]

    def run(self, accelerators: tuple[Accelerator, ...]) -> Seen:
        """Start the guest with the first of ``accelerators`` that works on this machine, and watch it.

        Raises:
            PreconditionError: qemu does not start; the message has its last line.
        """
        for accelerator in accelerators:
            try:
                with self._started(accelerator) as guest:
                    return guest.watched(self, accelerator)
            except EndedError as error:
                cause = str(error)
                _log.warning("qemu ended before the guest came up", accelerator=accelerator.value, cause=cause)
        raise PreconditionError(
            f"qemu ended before the guest came up ({cause})",
            subject=f"program {PROGRAM}",
            next_step="see the log, and try --firmware or --accelerator",
        )

    @contextmanager
    def _started(self, accelerator: Accelerator) -> Iterator["_Guest"]:
        with ExitStack() as life:
            ours, theirs = socket.socketpair()
            life.enter_context(ours)
            with theirs:
                overlays = tuple(life.enter_context(memory_file("overlay")) for _ in self.machine.disks)
                for disk, overlay in zip(self.machine.disks, overlays, strict=True):
                    _make_overlay(overlay, self.uri(disk.name))
                variables = None
                if self.machine.firmware is Firmware.UEFI:
                    variables = life.enter_context(memory_file("variables", Path(UEFI_VARIABLES).read_bytes()))
                screen = life.enter_context(memory_file("screen"))
                handles = Handles(theirs.fileno(), overlays, variables)
                inherited = [*overlays, screen, theirs.fileno(), *([] if variables is None else [variables])]
                process = subprocess.Popen(
                    command(self.machine, accelerator, handles),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    pass_fds=inherited,
                    restore_signals=False,  # a file that reaches its limit is an error for the guest, not qemu's end
                )
            life.callback(_end, process)
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (self.write_most_bytes, self.write_most_bytes))
            yield _Guest(process, ours, screen, self.clock)


class _Guest:
    def __init__(self, process: "subprocess.Popen[bytes]", monitor: socket.socket, screen: int, clock: Clock) -> None:
        self._process = process
        self._monitor = monitor
        self._lines = b""
        self._screen = screen
        self._clock = clock
        self._said = bytearray()
        monitor.settimeout(_ANSWER_SECONDS)

    def watched(self, drill: Drill, accelerator: Accelerator) -> Seen:
        """Start the guest, and wait. Raises EndedError."""
        self._line()
        self._ask("qmp_capabilities")
        began = self._clock.monotonic()
        self._ask("cont")
        came_up = self._wait(drill, began + drill.seconds)
        seconds = self._clock.monotonic() - began
        return Seen(came_up, seconds, accelerator, self._picture())

    def _wait(self, drill: Drill, until: float) -> bool:
        out: Any = self._process.stdout
        os.set_blocking(out.fileno(), False)
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            while (left := until - self._clock.monotonic()) > 0 and not drill.stopped():
                if selector.select(min(left, _LOOK_SECONDS)):
                    self._listen(out)
                if drill.awaited.words is not None and drill.awaited.words.encode() in self._said:
                    return True
                if drill.awaited.screen is not None and drill.awaited.screen(self._picture()):
                    return True
        return False

    def _listen(self, out: IO[bytes]) -> None:
        data = os.read(out.fileno(), _KEPT_BYTES)
        if not data:
            raise EndedError(self._last_words())
        self._said = (self._said + data)[-_KEPT_BYTES:]

    def _picture(self) -> bytes:
        os.ftruncate(self._screen, 0)
        self._ask("screendump", filename=path_of(self._screen))
        return content_of(self._screen)

    def _ask(self, what: str, **arguments: str) -> None:
        """A command to qemu, and its answer; what else it tells is passed over."""
        try:
            self._monitor.sendall(json.dumps({"execute": what, "arguments": arguments}).encode() + b"\n")
        except OSError:
            raise EndedError(self._last_words()) from None
        while True:
            answer = self._line()
            if "error" in answer:
                raise EndedError(f"{what}: {answer['error'].get('desc')}")
            if "return" in answer:
                return

    def _line(self) -> dict[str, Any]:
        while b"\n" not in self._lines:
            try:
                data = self._monitor.recv(1 << 16)
            except OSError:
                data = b""
            if not data or len(self._lines) > _LINE_MOST_BYTES:
                raise EndedError(self._last_words())
            self._lines += data
        line, _, self._lines = self._lines.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        """The last line that qemu said of itself; never the guest's."""
        self._process.kill()
        errors: Any = self._process.stderr
        told = errors.read().decode(errors="replace").strip()
        return told.rpartition("\n")[2][:300] or f"exit code {self._process.wait()}"


def _make_overlay(handle: int, uri: str) -> None:
    made = subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", uri, path_of(handle)],
        pass_fds=[handle],
        capture_output=True,
        text=True,
        check=False,
        timeout=_ANSWER_SECONDS,
    )
    if made.returncode:
        raise EndedError(made.stderr.strip()[:300])


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait(_END_SECONDS)
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()

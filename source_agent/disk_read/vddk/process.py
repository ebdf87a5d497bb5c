"""The agent's end of a worker: start it, ask it, and know when it is gone.

Not safe for threads, but for ``kill``. A worker whose agent dies sees its socket end, closes its disk and exits.
"""

import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from common import log
from common.extent import Extent
from source_agent.disk_read.vddk import errors, protocol
from source_agent.disk_read.vddk.protocol import SLOT_BYTES, SLOTS

SILENCE_SECONDS: Final = 300.0
"""Longest wait for an answer: the library's own timeouts (180 s) come first."""
_END_SECONDS: Final = 30.0
_SOCKET_BYTES: Final = 256 << 10

_log = log.get("vddk")


class WorkerProcess:
    """A worker that has loaded the library.

    Args:
        library: libvixDiskLib.so.N; what it needs lies beside it.
        root: the unpacked folder.
        config: the library's configuration file.
        subject: whom it works for, in errors and logs.
        silence_seconds: an answer that takes longer counts as none.

    Raises:
        PreconditionError: the library cannot be loaded.
        SourceUnavailableError: the worker died or fell silent.
    """

    def __init__(
        self, library: Path, root: Path, config: Path, subject: str, *, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        self._subject = subject
        self._ended: dict[int, int] = {}
        self._runs: list[bytes] = []
        self.free: SimpleQueue[int] = SimpleQueue()
        """Slots that nobody reads into or reads from; whoever takes one gives it back, from any thread."""
        for slot in range(SLOTS):
            self.free.put(slot)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, _shared_memory() as memory:
            self._mapped = memoryview(mmap.mmap(memory, 0, prot=mmap.PROT_READ))
            for end in (self._channel, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)
            self._channel.settimeout(silence_seconds)
            module = "source_agent.disk_read.vddk.worker"
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-m", module, str(theirs.fileno()), str(memory)],
                pass_fds=(theirs.fileno(), memory),
                # Nothing of the agent's own: the library finds its libraries first, and only here.
                env={"LD_LIBRARY_PATH": str(library.parent), "LC_ALL": "C.UTF-8"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # a terminal's interrupt is the agent's to handle
            )
        try:
            self._load(library, root, config)
        except BaseException:
            self.kill()
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _load(self, library: Path, root: Path, config: Path) -> None:
        reply = self._asked({"do": "load", "library": str(library), "root": str(root), "config": str(config)})
        if "result" in reply:
            raise errors.unusable(reply["text"], root)

    def ask(self, do: str, doing: str, **values: Any) -> dict[str, Any]:
        """The reply to a request that ``worker.py`` knows.

        Raises:
            KeysapartError: by errors.TABLE, as ``doing`` words it.
        """
        reply = self._asked({"do": do, **values})
        if "result" in reply:
            raise errors.raised(reply["call"], reply["result"], reply["text"], self._subject, doing)
        return reply

    def runs(self) -> bytes:
        """What ``allocated`` told before its reply; packed pairs of offset and length in sectors."""
        told, self._runs = b"".join(self._runs), []
        return told

    def start_reads(self, pieces: Mapping[Extent, int]) -> None:
        """Have pieces read into slots, in their order; their offsets and lengths are multiples of 512."""
        sector = protocol.SECTOR_BYTES
        wanted = ((slot, piece.offset // sector, piece.length // sector) for piece, slot in pieces.items())
        self._send(protocol.pack_reads(wanted))

    def wait_read(self, slot: int) -> int:
        """Wait until the read into a slot has ended; the library's result."""
        while slot not in self._ended:
            self._receive()
        return self._ended.pop(slot)

    def slot(self, slot: int, length: int) -> memoryview:
        """The first ``length`` bytes of a slot; they outlive the worker, as long as somebody holds them."""
        return self._mapped[slot * SLOT_BYTES : slot * SLOT_BYTES + length]

    def kill(self) -> None:
        """End it at once, from any thread; whoever waits for it learns that it is gone."""
        self._process.kill()

    def close(self) -> None:
        """End it, in good order if it can; never raises."""
        try:
            if self._process.poll() is None:
                with suppress(Exception):
                    self._channel.settimeout(_END_SECONDS)
                    self._asked({"do": "close"})
                self._channel.close()
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            self._channel.close()
            self._mapped = memoryview(b"")

    def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        self._send(protocol.pack_json(request))
        while (reply := self._receive()) is None:
            pass
        return reply

    def _send(self, message: bytes) -> None:
        try:
            self._channel.send(message)
        except OSError as error:
            raise errors.lost(self._end(), self._subject) from error

    def _receive(self) -> dict[str, Any] | None:
        """Take one message; a reply is returned, the rest is kept where it belongs."""
        try:
            message = self._channel.recv(protocol.MESSAGE_BYTES)
        except TimeoutError as error:
            self.kill()
            raise errors.lost("fell silent", self._subject) from error
        except OSError as error:
            raise errors.lost(self._end(), self._subject) from error
        match message[:1]:
            case b"":
                raise errors.lost(self._end(), self._subject)
            case protocol.DONE:
                self._ended.update(protocol.unpack_done(message))
            case protocol.RUNS:
                self._runs.append(message[1:])
            case protocol.LOG:
                self._heard(message[1:2].decode(), message[2:].decode("utf-8", "replace"))
            case _:
                return protocol.unpack_json(message)
        return None

    def _heard(self, level: str, text: str) -> None:
        _log.debug(
            "the library says", of=self._subject, level={"l": "log", "w": "warning"}.get(level, "panic"), text=text
        )

    def _end(self) -> str:
        """How it ended, in words."""
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return "hung up"
        if code >= 0:
            return f"ended with exit status {code}"
        return f"was ended by {signal.Signals(-code).name}"


@contextmanager
def _shared_memory() -> Iterator[int]:
    """A descriptor of SLOTS times SLOT_BYTES, into which the library reads; mappings outlive the block."""
    memory = os.memfd_create("vddk", os.MFD_CLOEXEC)
    try:
        os.ftruncate(memory, SLOTS * SLOT_BYTES)
        yield memory
    finally:
        os.close(memory)

"""The program that holds the library: ``python -m source_agent.disk_read.vddk.worker SOCKET MEMORY``.

Both arguments are numbers of inherited descriptors. It does what the socket says until that ends, on its main thread;
only the library's own threads report reads that have ended. It imports nothing that brings ssl with it, because the
library has its own.
"""

import ctypes
import mmap
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from common.protection import protect
from source_agent.disk_read.vddk import protocol
from source_agent.disk_read.vddk.abi import OK, DoneCallback
from source_agent.disk_read.vddk.library import Disk, Library, VixFailure
from source_agent.disk_read.vddk.protocol import MOST_RUNS, RUNS, SLOT_BYTES

_ASYNC_MODE = "nbdssl"
"""Elsewhere reads end inside the call anyway."""


class Worker:
    """One library, at most one disk of it."""

    def __init__(self, channel: socket.socket, memory: int) -> None:
        self._channel = channel
        self._memory = mmap.mmap(memory, 0)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._library: Library | None = None
        self._disk: Disk | None = None
        self._async = False
        self._done = DoneCallback(self._ended)

    def run(self) -> None:
        """Until the agent is gone or says that it is over."""
        while message := self._channel.recv(protocol.MESSAGE_BYTES):
            if message[:1] == protocol.READ:
                self._read(protocol.unpack_reads(message))
                continue
            request = protocol.unpack_json(message)
            try:
                reply = self._do(request)
            except VixFailure as failed:
                reply = {"call": failed.call, "result": failed.result, "text": failed.text}
            except OSError as failed:
                reply = {"call": "loading the library", "result": -1, "text": str(failed)}
            self._channel.send(protocol.pack_json(reply))
            if request["do"] == "close":
                return
        self._close()

    def _do(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to a request; what it may lack of the library is told as such."""
        reply: dict[str, Any] = {}
        match request["do"]:
            case "load":
                self._library = Library(request["library"], request["root"], request["config"], self._heard)
            case "open":
                self._disk = disk = Disk(self._loaded, request)
                self._async = disk.mode == _ASYNC_MODE and self._loaded.has("ReadAsync", "Wait")
                reply = {"mode": disk.mode, "capacity": disk.capacity_bytes()}
            case "allocated":
                reply = {"known": self._allocated()}
            case "text":
                reply = {"text": self._loaded.text(request["result"])}
            case "close":
                self._close()
            case "PrepareForAccess" | "EndAccess" as name:
                if self._loaded.has(name):
                    self._loaded.on_vm(name, request)
            case "Cleanup":
                cleaned, left = self._loaded.clean_up(request) if self._loaded.has("Cleanup") else (0, 0)
                reply = {"cleaned": cleaned, "left": left}
        return reply

    @property
    def _loaded(self) -> Library:
        assert self._library is not None  # noqa: S101  # "load" comes first
        return self._library

    @property
    def _open(self) -> Disk:
        assert self._disk is not None  # noqa: S101
        return self._disk

    def _read(self, wanted: Iterable[tuple[int, int, int]]) -> None:
        if not self._async:
            # One message for all of them: waking the agent costs more than it waits.
            read = self._open.read
            self._tell(
                (slot, read(sector, sectors, self._address + slot * SLOT_BYTES)) for slot, sector, sectors in wanted
            )
            return
        for slot, sector, sectors in wanted:
            refused = self._open.read_async(sector, sectors, self._address + slot * SLOT_BYTES, self._done, slot)
            if refused != OK:
                self._ended(slot, refused)

    def _ended(self, slot: int | None, result: int) -> None:
        """Called by threads of the library, too, so nothing may come out of it; slot 0 comes as None, as NULL does."""
        self._tell([(slot or 0, result)])

    def _tell(self, ended: Iterable[tuple[int, int]]) -> None:
        message = protocol.pack_done(ended)
        with suppress(OSError):  # the agent is gone, and run() sees it
            self._channel.send(message)

    def _allocated(self) -> bool:
        """Send the runs; False where the library does not know them."""
        if not self._loaded.has("QueryAllocatedBlocks", "FreeBlockList"):
            return False
        for runs in self._open.allocated():
            for start in range(0, len(runs), MOST_RUNS * 16):
                self._channel.send(RUNS + runs[start : start + MOST_RUNS * 16])
        return True

    def _heard(self, level: str, text: bytes) -> None:
        """A line of the library's log, from any of its threads; lost rather than waited for when nobody listens."""
        with suppress(OSError):
            self._channel.send(protocol.pack_log(level, text), socket.MSG_DONTWAIT)

    def _close(self) -> None:
        disk, self._disk = self._disk, None
        if disk is not None:
            disk.close()
        library, self._library = self._library, None
        if library is not None:
            library.exit()


def main() -> None:
    """Serve the descriptors that the arguments name."""
    protect()
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        Worker(channel, int(sys.argv[2])).run()


if __name__ == "__main__":
    main()

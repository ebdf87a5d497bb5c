"""An open disk whose bytes a worker reads: ahead of the reader, and over a new worker when one is lost.

Buffers are SLOTS times SLOT_BYTES of shared memory. Up to AT_ONCE reads of what was announced are under way or wait to
be fetched; a read that nobody announced takes a slot of its own.
"""

import os
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable
from itertools import pairwise
from types import TracebackType
from typing import Final, Self, TypeVar

from common import log
from common.clock import Clock
from common.errors import InternalError, KeysapartError
from common.extent import Extent, normalise, split
from source_agent.disk_read.vddk import errors
from source_agent.disk_read.vddk.abi import OK
from source_agent.disk_read.vddk.process import WorkerProcess
from source_agent.disk_read.vddk.protocol import SECTOR_BYTES, SLOT_BYTES, SLOTS

T = TypeVar("T")

AT_ONCE: Final = 4
"""Reads under way per disk: more end in allocation failures of the host's own buffers."""
TRIES: Final = 6
"""At one place, the first included; the pauses between them add up to half a minute."""
_LEAVE_SECONDS: Final = 10.0
_RUN = struct.Struct("<QQ")

_log = log.get("vddk")


class VddkDisk:
    """See ``port.OpenDisk``.

    Args:
        opened: starts a worker and opens the disk in it; called again after a loss.
        capacity_bytes: of the snapshot's disk.
        subject: the disk in errors and logs.
        clock: for pauses between attempts.
        release: called once, when the last worker has ended.

    Raises:
        KeysapartError: the disk cannot be opened; ``release`` is not called then.
    """

    def __init__(
        self,
        opened: Callable[[], WorkerProcess],
        capacity_bytes: int,
        subject: str,
        clock: Clock,
        release: Callable[[], None],
    ) -> None:
        self._opened = opened
        self._capacity = capacity_bytes
        self._subject = subject
        self._clock = clock
        self._release: Callable[[], None] | None = release
        self._using = threading.Lock()
        self._closing = False
        self._worker: WorkerProcess | None = None
        self._runs: tuple[Extent, ...] | None = None
        self._expected: deque[Extent] = deque()
        self._ahead: dict[Extent, int] = {}
        """Announced pieces whose reads were started, in their order, and their slots."""
        self._free = list(range(SLOTS))
        self._again(self._connected)

    def expect(self, pieces: Iterable[Extent]) -> None:
        """See OpenDisk."""
        with self._using:
            self._expected = deque(split(pieces, SLOT_BYTES))

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """See OpenDisk."""
        if offset < 0 or offset % SECTOR_BYTES or len(buffer) % SECTOR_BYTES or offset + len(buffer) > self._capacity:
            raise InternalError(
                f"read of {len(buffer)} bytes at {offset} does not fit the disk",
                subject=self._subject,
                next_step="report this with the log",
            )
        with self._using:
            for part in split([Extent(offset, len(buffer))], SLOT_BYTES):
                self._read(part, buffer[part.offset - offset : part.end - offset])

    def allocated(self, wanted: Extent) -> Iterable[Extent]:
        """See OpenDisk. The library is asked once; whatever goes wrong then means that all may hold data."""
        with self._using:
            if self._runs is None:
                self._runs = self._ask_runs()
        inside = ((max(run.offset, wanted.offset), min(run.end, wanted.end)) for run in self._runs)
        return [Extent(begin, end - begin) for begin, end in inside if begin < end]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the disk and end the worker, then release; a second call does nothing."""
        release, self._release = self._release, None
        if release is None:
            return
        self._closing = True
        if not self._using.acquire(timeout=_LEAVE_SECONDS):
            # Somebody still waits for a read that does not end; nothing may hold the snapshot's disk open.
            if (worker := self._worker) is not None:
                worker.kill()
            self._using.acquire()
        try:
            self._forget_worker()
        finally:
            self._using.release()
            release()

    def _read(self, part: Extent, target: memoryview) -> None:
        self._again(lambda: self._fetch(part, target))

    def _fetch(self, part: Extent, target: memoryview) -> None:
        """Fill ``target``, keeping the library busy with what is expected next meanwhile."""
        worker = self._connected()
        self._fill(worker)
        slot = self._ahead.pop(part, None)
        if slot is None:
            slot = self._free.pop()
            worker.start_read(slot, part.offset, part.length)
        try:
            result = worker.wait_read(slot)
            self._fill(worker)
            if result != OK:
                text = str(worker.ask("text", "", result=result)["text"])
                raise errors.raised(
                    "Read", result, text, self._subject, f"{self._subject} cannot be read at byte {part.offset}"
                )
            done = 0
            while done < part.length:  # not through a mapping of our own: this copies without the interpreter's lock
                done += os.preadv(worker.memory, [target[done:]], slot * SLOT_BYTES + done)
        finally:
            self._free.append(slot)

    def _fill(self, worker: WorkerProcess) -> None:
        while self._expected and len(self._ahead) < AT_ONCE:
            piece = self._expected.popleft()
            slot = self._free.pop()
            self._ahead[piece] = slot
            worker.start_read(slot, piece.offset, piece.length)

    def _ask_runs(self) -> tuple[Extent, ...]:
        whole = (Extent(0, self._capacity),)
        try:
            worker = self._connected()
            reply = worker.ask("allocated", f"allocated parts of {self._subject} cannot be told")
            runs = tuple(Extent(at * SECTOR_BYTES, n * SECTOR_BYTES) for at, n in _RUN.iter_unpack(worker.runs()))
        except KeysapartError as error:
            self._forget_worker()
            _log.info("the library does not tell which parts are allocated", of=self._subject, cause=error.message)
            return whole
        in_order = all(one.end <= other.offset for one, other in pairwise(runs))
        if not reply["known"] or not in_order or any(run.end > self._capacity for run in runs[-1:]):
            return whole
        return normalise(runs)

    def _connected(self) -> WorkerProcess:
        if self._worker is None:
            self._worker = self._opened()
        return self._worker

    def _forget_worker(self) -> None:
        """End the worker; what it was reading is expected again."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
        self._expected.extendleft(reversed(self._ahead))
        self._ahead.clear()
        self._free = list(range(SLOTS))

    def _again(self, action: Callable[[], T]) -> T:
        """The action's result; after a loss that may pass, over a new worker."""
        for attempt in range(1, TRIES + 1):
            try:
                return action()
            except KeysapartError as error:
                if not error.retryable or self._closing:
                    raise
                self._forget_worker()
                if attempt == TRIES:
                    raise
                _log.warning("a disk is opened anew", of=self._subject, attempt=attempt, cause=error.message)
            for _ in range(1 << (attempt - 1)):
                if not self._closing:
                    self._clock.sleep(1.0)
        raise AssertionError  # the last attempt returns or raises

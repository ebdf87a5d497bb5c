"""An open disk whose bytes a worker reads: ahead of the reader, and over a new worker when one is lost.

Buffers are SLOTS times SLOT_BYTES of shared memory, and pieces are lent where the library put them. Up to AT_ONCE reads
of what was announced are under way or wait to be lent.
"""

import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from types import TracebackType
from typing import Final, Self, TypeVar

from common import log
from common.clock import Clock
from common.errors import InternalError, KeysapartError, SourceError
from common.extent import Extent, normalise
from source_agent.disk_read.vddk import errors
from source_agent.disk_read.vddk.abi import OK
from source_agent.disk_read.vddk.process import WorkerProcess
from source_agent.disk_read.vddk.protocol import AT_ONCE, SECTOR_BYTES, SLOT_BYTES

T = TypeVar("T")

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
        self._again(self._connected)

    def expect(self, pieces: Iterable[Extent]) -> None:
        """See OpenDisk."""
        with self._using:
            self._expected = deque(pieces)

    @contextmanager
    def lend(self, piece: Extent) -> Iterator[memoryview]:
        """See OpenDisk; in shared memory."""
        aligned = piece.offset % SECTOR_BYTES == piece.length % SECTOR_BYTES == 0
        if not aligned or piece.length > SLOT_BYTES or piece.end > self._capacity:
            raise InternalError(
                f"read of {piece.length} bytes at {piece.offset} does not fit the disk",
                subject=self._subject,
                next_step="report this with the log",
            )
        with self._using:
            worker, slot = self._again(lambda: self._fetch(piece))
            lent = worker.slot(slot, piece.length)
        try:
            yield lent
        finally:
            worker.free.put(slot)

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

    def _fetch(self, piece: Extent) -> tuple[WorkerProcess, int]:
        """The slot that holds the piece; the library is kept busy with what is expected next meanwhile."""
        worker = self._connected()
        self._fill(worker)
        slot = self._ahead.pop(piece, None)
        if slot is None:
            slot = worker.free.get()  # waits for a piece that is lent: those come back by themselves
            worker.start_reads({piece: slot})
        result = worker.wait_read(slot)
        self._fill(worker)
        if result != OK:
            worker.free.put(slot)
            text = str(worker.ask("text", "", result=result)["text"])
            what = f"{self._subject} cannot be read at byte {piece.offset}"
            raise errors.raised("Read", result, text, self._subject, what)
        return worker, slot

    def _fill(self, worker: WorkerProcess) -> None:
        if not self._expected or len(self._ahead) > AT_ONCE // 2:  # half of them at a time: fewer, larger messages
            return
        more: dict[Extent, int] = {}
        while self._expected and len(self._ahead) + len(more) < AT_ONCE and not worker.free.empty():
            more[self._expected.popleft()] = worker.free.get()  # nobody else takes one while this disk is in use
        self._ahead |= more
        if more:
            worker.start_reads(more)

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
            if self._closing:
                # A read that waited while its sync was given up: a new worker would attach the disk, and nobody end it.
                raise SourceError(
                    f"{self._subject} is closed", subject=self._subject, next_step="report this with the log"
                )
            self._worker = self._opened()
        return self._worker

    def _forget_worker(self) -> None:
        """End the worker; what it was reading is expected again."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()
        self._expected.extendleft(reversed(self._ahead))
        self._ahead.clear()

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

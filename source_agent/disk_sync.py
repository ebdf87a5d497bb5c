"""One disk of a sync: open, work out what to read, stream it."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from common.clock import Clock
from common.errors import InterruptedSyncError
from common.extent import Extent, above, round_to_grains
from common.grain import GRAIN_BYTES
from common.ids import DiskKey, SyncId
from common.sync.events import GrainRecord
from common.wire.v1 import replication_pb2 as wire
from source_agent import pipeline
from source_agent.disk_read.port import BlockReader, OpenDisk
from source_agent.pipeline import DiskCount
from source_agent.plan import DiskPlan, Kind
from source_agent.reduce.guest_encryption import suspicion
from source_agent.reduce.held import HeldDigests
from source_agent.report import DiskReport
from source_agent.stream.channel import Target
from source_agent.stream.link import BREAKS, Link
from source_agent.stream.sender import DiskSender, Sent
from source_agent.vsphere.port import DiskInfo, Snapshot


@dataclass(frozen=True)
class DiskTask:
    """A disk, what was decided about it, and the extents to read (normal, in bytes)."""

    disk: DiskInfo
    plan: DiskPlan
    extents: tuple[Extent, ...]

    @property
    def listed_bytes(self) -> int:
        """What reading them comes to, in whole grains."""
        return sum(extent.length for extent in round_to_grains(self.extents, self.disk.capacity_bytes))


@dataclass
class Cancellation:
    """Ends all streams of a sync at once, from any thread; later ones do not begin."""

    _stopped: threading.Event = field(default_factory=threading.Event)
    _senders: set[DiskSender] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def stopped(self) -> bool:
        """Whether the sync is to end."""
        return self._stopped.is_set()

    @contextmanager
    def watched(self, sender: DiskSender) -> Iterator[None]:
        """``sender`` is to be cancelled with the others while the block runs."""
        with self._lock:
            self._senders.add(sender)
            if self.stopped:
                sender.cancel()
        try:
            yield
        finally:
            with self._lock:
                self._senders.discard(sender)

    def cancel(self) -> None:
        """End them."""
        with self._lock:
            self._stopped.set()
            senders = list(self._senders)
        for sender in senders:
            sender.cancel()

    def cut_stalled(self) -> None:
        """End the streams of which the target takes nothing any more."""
        with self._lock:
            senders = list(self._senders)
        for sender in senders:
            sender.cut_if_stalled()

    def pause(self, seconds: float) -> None:
        """Wait, unless the sync is to end. Raises InterruptedSyncError then."""
        if self._stopped.wait(seconds):
            raise InterruptedSyncError("the sync was ended", subject="sync", next_step="sync again")


@dataclass(frozen=True)
class Work:
    """What all disks of one sync share."""

    target: Target
    link: Link
    clock: Clock
    reader: BlockReader
    snapshot: Snapshot
    sync: SyncId
    window_bytes: int
    workers: Executor
    cancellation: Cancellation
    started: Callable[[DiskTask, int, DiskCount], None]
    """Told of each disk when its bytes to read are known: task, bytes, the count that grows."""

    def sender(self, disk: DiskKey) -> DiskSender:
        """A new stream for ``disk``, not started."""
        return DiskSender(self.target, self.sync, disk, self.window_bytes, flight=self.link.flight, clock=self.clock)


def sync_disk(work: Work, task: DiskTask, at: wire.DiskProgress | None = None) -> DiskReport:
    """Send what is to be sent of one disk; returns when it is sealed and durable at the target.

    A break of the link costs what was under way: the disk stays open and goes on where the target stands.

    Args:
        work: the sync.
        task: the disk.
        at: how far the disk is at the target already.

    Raises:
        KeysapartError: the reader's, the target's or the network's.
    """
    count = DiskCount()
    sent = Sent(0, 0, 0)
    if at is not None and at.finished:
        return _report(task, count, sent)
    with ExitStack() as stack:
        opened = stack.enter_context(work.reader.open(work.snapshot, task.disk)) if task.extents else None
        wanted = _wanted(opened, task, at.next_grain if at else 0)
        total = sum(piece.length for piece in wanted)
        work.started(task, total, count)
        while True:
            sender = work.sender(task.disk.key)
            with work.cancellation.watched(sender):
                with work.link.starting() as generation:
                    sender.start(_records(work, task, opened, wanted, count))
                try:
                    sender.finish()
                    return _report(task, count, sent + sender.sent)
                except BREAKS as error:
                    work.cancellation.pause(0.0)  # a stream that we cancelled looks like one that broke
                    state = work.link.mend(generation, error)
            sent += sender.sent
            progress = next(one for one in state.disks if one.disk == task.disk.key)
            if progress.finished:
                return _report(task, count, sent)
            wanted = _wanted(opened, task, progress.next_grain)
            count.bytes_again = count.bytes_read - (total - sum(piece.length for piece in wanted))


def _wanted(opened: OpenDisk | None, task: DiskTask, first_grain: int) -> list[Extent]:
    """The pieces to read from ``first_grain`` on."""
    if opened is None:
        return []
    extents = above(task.extents, first_grain * GRAIN_BYTES)
    return pipeline.pieces(opened, extents, task.disk.capacity_bytes, skip_holes=task.plan.kind is Kind.FULL)


def _records(
    work: Work, task: DiskTask, opened: OpenDisk | None, wanted: Sequence[Extent], count: DiskCount
) -> Iterable[Sequence[GrainRecord]]:
    if opened is None:
        return ()
    held = None if task.plan.kind is Kind.FULL else HeldDigests(wanted, _fetch(work, task.disk.key))
    return pipeline.records(
        opened, wanted, held, workers=work.workers, count=count, stopped=lambda: work.cancellation.stopped
    )


def _fetch(work: Work, key: DiskKey) -> Callable[..., dict[int, bytes]]:
    return lambda spans: work.target.manifest(work.sync, key, spans)


def _report(task: DiskTask, count: DiskCount, sent: Sent) -> DiskReport:
    return DiskReport(
        key=task.disk.key,
        label=task.disk.label,
        kind=task.plan.kind.value,
        rule=task.plan.rule,
        capacity_bytes=task.disk.capacity_bytes,
        bytes_read=count.bytes_read,
        bytes_sent=sent.wire_bytes,
        grains_sent=sent.grains,
        grains_zero=count.grains_zero,
        grains_unchanged=count.grains_unchanged,
        suspicion=suspicion(count.schemes, count.grains_data, count.grains_raw),
    )

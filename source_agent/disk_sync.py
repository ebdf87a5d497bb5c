"""One disk of a sync: open, work out what to read, stream it."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field

from common.extent import Extent, round_to_grains
from common.ids import DiskKey, SyncId
from common.sync.events import GrainRecord
from source_agent import pipeline
from source_agent.disk_read.port import BlockReader
from source_agent.pipeline import DiskCount
from source_agent.plan import DiskPlan, Kind
from source_agent.reduce.held import HeldDigests
from source_agent.report import DiskReport
from source_agent.stream.channel import Target
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

    stopped: bool = False
    _senders: list[DiskSender] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def watch(self, sender: DiskSender) -> None:
        """``sender`` is to be cancelled with the others."""
        with self._lock:
            self._senders.append(sender)
            if self.stopped:
                sender.cancel()

    def cancel(self) -> None:
        """End them."""
        with self._lock:
            self.stopped = True
            senders = list(self._senders)
        for sender in senders:
            sender.cancel()


@dataclass(frozen=True)
class Work:
    """What all disks of one sync share."""

    target: Target
    reader: BlockReader
    snapshot: Snapshot
    sync: SyncId
    window_bytes: int
    workers: Executor
    cancellation: Cancellation
    started: Callable[[DiskTask, int, DiskCount], None]
    """Told of each disk when its bytes to read are known: task, bytes, the count that grows."""


def sync_disk(work: Work, task: DiskTask) -> DiskReport:
    """Send what is to be sent of one disk; returns when it is sealed and durable at the target.

    Raises:
        KeysapartError: the reader's, the target's or the network's.
    """
    key, capacity = task.disk.key, task.disk.capacity_bytes
    count = DiskCount()
    with ExitStack() as stack:
        wanted: list[Extent] = []
        records: Iterable[Sequence[GrainRecord]] = ()
        if task.extents:
            opened = stack.enter_context(work.reader.open(work.snapshot, task.disk))
            wanted = pipeline.pieces(opened, task.extents, capacity, skip_holes=task.plan.kind is Kind.FULL)
            held = None if task.plan.kind is Kind.FULL else HeldDigests(wanted, _fetch(work, key))
            records = pipeline.records(
                opened, wanted, held, workers=work.workers, count=count, stopped=lambda: work.cancellation.stopped
            )
        work.started(task, sum(piece.length for piece in wanted), count)
        sender = DiskSender(work.target, work.sync, key, work.window_bytes)
        work.cancellation.watch(sender)
        sent = sender.send(records)
    return _report(task, count, sent)


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
    )

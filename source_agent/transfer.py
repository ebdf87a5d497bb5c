"""The middle of a sync: begin, all disks at once, commit."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from common import log
from common.clock import Clock
from common.errors import KeysapartError
from common.ids import PointNumber, ReplicaId, SyncId, parse_point, parse_replica, parse_sync
from common.wire.v1 import replication_pb2 as wire
from source_agent.disk_read.port import BlockReader
from source_agent.disk_sync import Cancellation, DiskTask, Work, sync_disk
from source_agent.plan import Kind
from source_agent.progress import Progress
from source_agent.report import DiskReport
from source_agent.stop import Stop
from source_agent.stream.channel import Target
from source_agent.stream.link import Link
from source_agent.vsphere.port import Snapshot

_log = log.get("transfer")

_RENEW_SECONDS: Final = 15.0
"""A quarter of the lease: two renewals may be lost before it lapses."""
_TICK_SECONDS: Final = 2.0
"""Between two looks for streams of which the target takes nothing."""


@dataclass(frozen=True, slots=True)
class Transferred:
    """A committed point, the bytes it takes in the target's store, and what became of each disk."""

    point: PointNumber
    record_hash: bytes
    """BLAKE3-256 of the point's record."""
    stored_bytes: int
    disks: tuple[DiskReport, ...]


class Transfer:
    """One sync's way over the wire; used once."""

    def __init__(
        self,
        target: Target,
        reader: BlockReader,
        snapshot: Snapshot,
        described: wire.DescribeReplicaResponse,
        *,
        progress: Progress,
        clock: Clock,
        parallel_disks: int,
        stop: Stop,
        patience_seconds: float,
        alive: Callable[[], None],
    ) -> None:
        self._target = target
        self._clock = clock
        self._patience = patience_seconds
        self._alive = alive
        self._cancellation = Cancellation()
        self._reader = reader
        self._snapshot = snapshot
        self._described = described
        self._progress = progress
        self._stop = stop
        self._at_once = max(1, min(parallel_disks, described.max_streams))

    def run(
        self, request: wire.BeginSyncRequest, tasks: Sequence[DiskTask], begun: Callable[[SyncId, PointNumber], None]
    ) -> Transferred:
        """Open a sync, send every disk of ``tasks``, commit; ``begun`` is told of the sync when it is open.

        Raises:
            KeysapartError: the first failure. Then, as on a signal, the streams are over and the sync is open still.
        """
        opened = self._target.begin(request)
        sync, point = parse_sync(opened.sync), parse_point(opened.point)
        begun(sync, point)
        return self._run(sync, point, parse_replica(request.replica), tasks, {})

    def resume(
        self,
        sync: SyncId,
        point: PointNumber,
        replica: ReplicaId,
        tasks: Sequence[DiskTask],
        disks: Iterable[wire.DiskProgress],
    ) -> Transferred:
        """The same for a sync that is open, and whose ``disks`` are so far. Raises as ``run`` does."""
        return self._run(sync, point, replica, tasks, {one.disk: one for one in disks})

    def _run(
        self,
        sync: SyncId,
        point: PointNumber,
        replica: ReplicaId,
        tasks: Sequence[DiskTask],
        disks: Mapping[int, wire.DiskProgress],
    ) -> Transferred:
        link = Link(
            self._target,
            self._clock,
            self._cancellation.pause,
            self._progress.say,
            sync=sync,
            replica=replica,
            patience_seconds=self._patience,
        )
        with self._stop.calling(self._cancellation.cancel):
            with self._kept_alive(sync):
                reports = self._send(sync, link, tasks, disks)
            self._progress.say(f"committing point {point}")
            committed = link.commit()
        return Transferred(parse_point(committed.point), committed.record_hash, committed.stored_bytes, reports)

    def _send(
        self, sync: SyncId, link: Link, tasks: Sequence[DiskTask], disks: Mapping[int, wire.DiskProgress]
    ) -> tuple[DiskReport, ...]:
        cancellation = self._cancellation
        with (
            ThreadPoolExecutor(_reducers(tasks), "reduce") as workers,
            ThreadPoolExecutor(self._at_once, "disk") as streams,
        ):
            work = Work(
                target=self._target,
                link=link,
                clock=self._clock,
                reader=self._reader,
                snapshot=self._snapshot,
                sync=sync,
                window_bytes=self._described.window_bytes,
                workers=workers,
                cancellation=cancellation,
                started=self._progress.disk,
            )
            futures = [streams.submit(sync_disk, work, task, disks.get(task.disk.key)) for task in tasks]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                self._stop.check()
                return tuple(future.result() for future in _failed_first(futures))
            except BaseException:
                # Whatever it was (a failure, a signal): nothing goes on reading a snapshot that is to go.
                cancellation.cancel()
                streams.shutdown(cancel_futures=True)
                raise

    @contextmanager
    def _kept_alive(self, sync: SyncId) -> Iterator[None]:
        """Show signs of life while disks are read in which nothing changed, and end streams that hang."""
        over = threading.Event()

        def watch() -> None:
            renewed = self._clock.monotonic()
            while not over.wait(_TICK_SECONDS):
                self._cancellation.cut_stalled()
                if self._clock.monotonic() - renewed >= _RENEW_SECONDS:
                    renewed = self._clock.monotonic()
                    self._alive()
                    try:
                        self._target.renew(sync)
                    except KeysapartError as error:
                        _log.warning("the lease was not renewed", sync=sync, cause=error.message)

        thread = threading.Thread(target=watch, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _reducers(tasks: Sequence[DiskTask]) -> int:
    """Threads that read and reduce.

    A full sends most of what it reads, and gRPC and TLS need half of the processors: with the target on the same two,
    one thread was 4 % faster than two. Otherwise little is sent.
    """
    processors = os.cpu_count() or 1
    return max(1, processors // 2) if any(task.plan.kind is Kind.FULL for task in tasks) else processors


def _failed_first(futures: Sequence[Future[DiskReport]]) -> Sequence[Future[DiskReport]]:
    """The futures in order, unless one has failed: then that one, so that its error is the one raised."""
    failed = [future for future in futures if future.done() and not future.cancelled() and future.exception()]
    return failed or futures

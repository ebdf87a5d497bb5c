"""One disk's write stream: batches out, acks in, never more under way than the window.

gRPC pulls frames from an iterator on a thread of its own, and acks are read on the caller's thread; the machine between
them is guarded by one condition.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from common.errors import InterruptedSyncError, KeysapartError, TargetUnavailableError
from common.ids import DiskKey, SyncId
from common.sync import codec
from common.sync.events import MAX_BATCH_GRAINS, Batch, GrainRecord, Open
from common.sync.machine import Sender, State

BATCH_BYTES = 1 << 20
"""Data at which a batch is sent: frames of about 1 MiB move fastest through gRPC."""


class WriteTarget(Protocol):
    """The part of the target that a sender needs."""

    def write(self, frames: Iterator[bytes]) -> Any:
        """Start the stream."""
        ...

    def explain(self, error: Any) -> KeysapartError:
        """A failed call in our words."""
        ...


@dataclass(frozen=True, slots=True)
class Sent:
    """What went over the wire for one disk; bytes include framing, not TLS."""

    wire_bytes: int
    batches: int
    grains: int


class DiskSender:
    """Sends one disk of one sync; used once."""

    def __init__(self, target: WriteTarget, sync: SyncId, disk: DiskKey, window_bytes: int) -> None:
        self._target = target
        self._opening = Open(sync, disk)
        self._machine = Sender(window_bytes)
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._stopped = False
        self._wire_bytes = 0
        self._call: Any = None

    def send(self, records: Iterable[Sequence[GrainRecord]]) -> Sent:
        """Send all records, and return when the target has them sealed on stable storage.

        Args:
            records: groups of records, rising by grain over the whole; pulled on another thread, a little ahead.

        Raises:
            KeysapartError: the target's, or whatever ``records`` raised; the stream is over then.
        """
        self._call = self._target.write(self._frames(records))
        try:
            for ack in self._call:
                with self._changed:
                    self._machine.acknowledged(codec.decode_ack(ack))
                    self._changed.notify_all()
        except grpc.RpcError as error:
            raise self._failure or self._target.explain(error) from error
        finally:
            self.cancel()
        if self._failure:
            raise self._failure
        if self._machine.state is not State.FINISHED:
            raise TargetUnavailableError(
                "the target ended the stream before the disk was complete",
                subject=f"disk {self._opening.disk}",
                next_step="see the target's log, then sync again",
            )
        return Sent(self._wire_bytes, self._machine.batches, self._machine.grains)

    def cancel(self) -> None:
        """End the stream from any thread; harmless when it is over."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._call is not None:
            self._call.cancel()

    def _frames(self, records: Iterable[Sequence[GrainRecord]]) -> Iterator[bytes]:
        try:
            yield self._counted(codec.encode(self._machine.open(self._opening)))
            for sequence, batch in enumerate(batches(records), start=1):
                self._await_window(sum(len(record.data) for record in batch))
                with self._changed:
                    event = self._machine.batch(Batch(sequence, batch))
                yield self._counted(codec.encode(event))
            with self._changed:
                done = self._machine.done()
            yield self._counted(codec.encode(done))
        except GeneratorExit:  # whoever pulled has enough: no failure
            raise
        except BaseException as error:  # noqa: BLE001 - gRPC would swallow it on its thread; ``send`` raises it
            self._failure = self._failure or error
            self.cancel()

    def _counted(self, frame: bytes) -> bytes:
        self._wire_bytes += len(frame)
        return frame

    def _await_window(self, size: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._machine.may_send(size))
            if self._stopped:
                raise InterruptedSyncError(
                    "the stream was ended", subject=f"disk {self._opening.disk}", next_step="sync again"
                )


def batches(groups: Iterable[Sequence[GrainRecord]]) -> Iterator[list[GrainRecord]]:
    """Records regrouped into batches of about BATCH_BYTES and at most MAX_BATCH_GRAINS."""
    batch: list[GrainRecord] = []
    size = 0
    for group in groups:
        for record in group:
            batch.append(record)
            size += len(record.data)
            if size >= BATCH_BYTES or len(batch) == MAX_BATCH_GRAINS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch

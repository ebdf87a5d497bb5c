"""One disk's write stream: batches out, acks in, never more under way than the window.

gRPC pulls frames from an iterator on a thread of its own, and acks are read on the caller's thread; the machine between
them is guarded by one condition.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from common.clock import Clock, SystemClock
from common.errors import InterruptedSyncError, KeysapartError, TargetUnavailableError
from common.ids import DiskKey, SyncId
from common.sync import codec
from common.sync.events import MAX_BATCH_GRAINS, Batch, GrainRecord, Open
from common.sync.machine import Sender, State
from source_agent.stream.flight import Flight

STALL_SECONDS = 20.0
"""How long the target may take no data, or owe an ack, before the stream counts as broken. An fsync of 16 MiB is the
longest that a working target needs."""


class WriteTarget(Protocol):
    """The part of the target that a sender needs."""

    def write(self, frames: Iterator[bytes], held: Callable[[], None]) -> Any:
        """Start the stream; ``held`` is told while a bandwidth limit holds a frame back."""
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

    def __add__(self, other: "Sent") -> "Sent":
        return Sent(self.wire_bytes + other.wire_bytes, self.batches + other.batches, self.grains + other.grains)


class DiskSender:
    """Sends one disk of one sync; used once."""

    def __init__(
        self,
        target: WriteTarget,
        sync: SyncId,
        disk: DiskKey,
        window_bytes: int,
        *,
        flight: Flight | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._target = target
        self._flight = flight or Flight()
        self._clock = clock or SystemClock()
        self._owed_since: float | None = None
        self._opening = Open(sync, disk, self._flight.broken)
        self._machine = Sender(window_bytes)
        self._changed = threading.Condition()
        self._failure: BaseException | None = None
        self._stopped = False
        self._wire_bytes = 0
        self._call: Any = None

    @property
    def sent(self) -> Sent:
        """What was handed to gRPC so far."""
        return Sent(self._wire_bytes, self._machine.batches, self._machine.grains)

    def send(self, records: Iterable[Sequence[GrainRecord]]) -> Sent:
        """``start``, then ``finish``."""
        self.start(records)
        return self.finish()

    def start(self, records: Iterable[Sequence[GrainRecord]]) -> None:
        """Begin to send; ``finish`` must follow.

        Args:
            records: groups of records, rising by grain over the whole; pulled on another thread, a little ahead.
        """
        self._call = self._target.write(self._frames(records), lambda: self._owed(True))

    def finish(self) -> Sent:
        """Return when the target has all records sealed on stable storage.

        Raises:
            KeysapartError: the target's, or whatever ``records`` raised; the stream is over then.
        """
        try:
            for ack in self._call:
                with self._changed:
                    before = self._machine.under_way_bytes
                    self._machine.acknowledged(codec.decode_ack(ack))
                    self._flight.kept(before - self._machine.under_way_bytes)
                    if self._owed_since is not None:
                        self._owed_since = self._clock.monotonic()
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
        return self.sent

    def cut_if_stalled(self) -> None:
        """End the stream, as broken, when the target has been taking nothing for STALL_SECONDS; from any thread."""
        with self._changed:
            since = self._owed_since
            if since is None or self._stopped or self._clock.monotonic() - since < STALL_SECONDS:
                return
            self._failure = self._failure or TargetUnavailableError(
                f"the target has taken no data of disk {self._opening.disk} for {STALL_SECONDS:.0f} seconds",
                subject=f"disk {self._opening.disk}",
                next_step="look at the link and at the load of the target's store, then sync again",
            )
        self.cancel()

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
            self._owed(False)
            for sequence, batch in enumerate(batches(records, self._flight), start=1):
                self._await_window(sum(len(record.data) for record in batch))
                with self._changed:
                    event = self._machine.batch(Batch(sequence, batch))
                yield self._counted(codec.encode(event))
                self._owed(False)
            with self._changed:
                self._require_running()
                done = self._machine.done()
            yield self._counted(codec.encode(done))
        except GeneratorExit:  # whoever pulled has enough: no failure
            raise
        except BaseException as error:  # noqa: BLE001 - gRPC would swallow it on its thread; ``send`` raises it
            self._failure = self._failure or error
            self.cancel()

    def _counted(self, frame: bytes) -> bytes:
        """The link has taken a frame when gRPC asks for the next one; after the last the target owes an ack."""
        self._wire_bytes += len(frame)
        self._owed(True)
        return frame

    def _owed(self, owed: bool) -> None:
        """Whether it is the target's turn now."""
        with self._changed:
            self._owed_since = self._clock.monotonic() if owed else None

    def _await_window(self, size: int) -> None:
        self._owed(True)
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._machine.may_send(size, self._flight.under_way))
            self._require_running()

    def _require_running(self) -> None:
        """Raises InterruptedSyncError when the stream was cancelled; the caller holds the condition."""
        if self._stopped:
            raise InterruptedSyncError(
                "the stream was ended", subject=f"disk {self._opening.disk}", next_step="sync again"
            )


def batches(groups: Iterable[Sequence[GrainRecord]], flight: Flight) -> Iterator[list[GrainRecord]]:
    """Records regrouped into batches of about what ``flight`` says and at most MAX_BATCH_GRAINS."""
    batch: list[GrainRecord] = []
    size = 0
    for group in groups:
        for record in group:
            batch.append(record)
            size += len(record.data)
            if size >= flight.batch_bytes or len(batch) == MAX_BATCH_GRAINS:
                yield batch
                batch, size = [], 0
    if batch:
        yield batch

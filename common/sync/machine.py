"""The write stream as two machines without I/O.

Rules, which both ends enforce and neither trusts the other on:

1. Open, then batches 1, 2, 3 …, then Done; nothing before, between twice, or after.
2. A sender has at most WINDOW_BYTES of data that no ack covers.
3. Acks never fall, never run ahead of what was sent; one ack with ``done`` answers Done and ends the stream. What is
   durable was kept, and what was kept is no longer under way.
4. A batch holds 1 to MAX_BATCH_GRAINS records; each fits its kind and lies on the disk; grain indices rise strictly
   over the whole stream, so that none comes twice and nobody has to remember which came.
5. Done tells the number of batches and grains; both must match.

An illegal move raises and changes nothing. Neither machine knows gRPC; ``codec.py`` turns events into frames.
"""

import enum
from collections import deque

from common.errors import ProtocolError
from common.sync.events import MAX_BATCH_GRAINS, WINDOW_BYTES, Ack, Batch, Done, Open, record_fits


class State(enum.Enum):
    """Where a stream stands."""

    NEW = "new"
    STREAMING = "streaming"
    FINISHING = "finishing"
    FINISHED = "finished"


def _refuse(what: str, subject: str) -> ProtocolError:
    return ProtocolError(
        what, subject=subject, next_step="sync again; if it happens twice, report it with both sides' versions"
    )


class Sender:
    """The agent's end of one disk's stream. Not thread-safe: callers serialise."""

    def __init__(self, window_bytes: int = WINDOW_BYTES) -> None:
        self.state = State.NEW
        self._window = window_bytes
        self._unacknowledged: deque[tuple[int, int]] = deque()
        self._under_way: deque[tuple[int, int]] = deque()
        self.unacknowledged_bytes = 0
        self.under_way_bytes = 0
        self.batches = 0
        self.grains = 0

    def open(self, event: Open) -> Open:
        """Start the stream."""
        self._require(State.NEW, f"disk {event.disk}")
        self.state = State.STREAMING
        return event

    def may_send(self, data_bytes: int, under_way: int | None = None) -> bool:
        """Whether a batch with so much data fits the window; one always fits an empty window.

        Args:
            data_bytes: of the batch.
            under_way: most bytes, this batch's included, that may be sent and not kept; None for no such bound.
        """
        if under_way is not None and self._under_way and self.under_way_bytes + data_bytes > under_way:
            return False
        return not self._unacknowledged or self.unacknowledged_bytes + data_bytes <= self._window

    def batch(self, event: Batch) -> Batch:
        """Send a batch; its sequence must be the next, and the window must have room."""
        self._require(State.STREAMING, "batch")
        if event.sequence != self.batches + 1 or not event.records:
            raise _refuse(f"batch {event.sequence} does not follow batch {self.batches}", "stream")
        size = event.data_bytes
        if not self.may_send(size):
            raise _refuse("the window is full", "stream")
        self.batches = event.sequence
        self.grains += len(event.records)
        self._unacknowledged.append((event.sequence, size))
        self._under_way.append((event.sequence, size))
        self.unacknowledged_bytes += size
        self.under_way_bytes += size
        return event

    def done(self) -> Done:
        """Say that all is sent."""
        self._require(State.STREAMING, "done")
        self.state = State.FINISHING
        return Done(self.batches, self.grains)

    def acknowledged(self, ack: Ack) -> None:
        """Take an ack from the target."""
        lowest = self._unacknowledged[0][0] - 1 if self._unacknowledged else self.batches
        kept = max(ack.kept_sequence, ack.durable_sequence)
        if self.state in (State.NEW, State.FINISHED) or not lowest <= ack.durable_sequence <= kept <= self.batches:
            raise _refuse(f"the target acknowledged batch {ack.durable_sequence} of {self.batches}", "stream")
        if ack.done and (self.state is not State.FINISHING or ack.durable_sequence != self.batches):
            raise _refuse("the target ended the stream early", "stream")
        while self._unacknowledged and self._unacknowledged[0][0] <= ack.durable_sequence:
            self.unacknowledged_bytes -= self._unacknowledged.popleft()[1]
        while self._under_way and self._under_way[0][0] <= kept:
            self.under_way_bytes -= self._under_way.popleft()[1]
        if ack.done:
            self.state = State.FINISHED

    def _require(self, state: State, what: str) -> None:
        if self.state is not state:
            raise _refuse(f"{what} cannot be sent on a stream that is {self.state.value}", "stream")


class Receiver:
    """The target's end of one disk's stream. Not thread-safe: one thread per stream."""

    def __init__(self, window_bytes: int = WINDOW_BYTES) -> None:
        self.state = State.NEW
        self._window = window_bytes
        self._grain_count = 0
        self._last_grain = -1
        self.batches = 0
        self.grains = 0
        self.durable = 0
        self.pending_bytes = 0

    def opened(self, grain_count: int) -> None:
        """The open frame was accepted; the disk has ``grain_count`` grains."""
        self._require(State.NEW, "an open frame")
        self.state = State.STREAMING
        self._grain_count = grain_count

    def batch(self, event: Batch) -> None:
        """Check a batch before anything of it is kept."""
        self._require(State.STREAMING, "a batch")
        if event.sequence != self.batches + 1:
            raise _refuse(f"batch {event.sequence} came after batch {self.batches}", "stream")
        if not 1 <= len(event.records) <= MAX_BATCH_GRAINS:
            raise _refuse(f"batch {event.sequence} holds {len(event.records)} grains", "stream")
        size = event.data_bytes
        if self.pending_bytes and self.pending_bytes + size > self._window:
            raise _refuse(f"batch {event.sequence} overruns the window", "stream")
        last = self._last_grain
        for record in event.records:
            if not last < record.grain < self._grain_count or not record_fits(record):
                raise _refuse(f"grain {record.grain} after {last} of {self._grain_count} cannot be", "stream")
            last = record.grain
        self._last_grain = last
        self.batches = event.sequence
        self.grains += len(event.records)
        self.pending_bytes += size

    def made_durable(self) -> Ack:
        """All batches so far are on stable storage; the ack that says so."""
        self._require(State.STREAMING, "an ack")
        self.durable = self.batches
        self.pending_bytes = 0
        return Ack(self.durable, kept_sequence=self.batches)

    def kept(self) -> Ack:
        """All batches so far were checked and kept; the ack that says so, and no more."""
        self._require(State.STREAMING, "an ack")
        return Ack(self.durable, kept_sequence=self.batches)

    def done(self, event: Done) -> None:
        """The source says that all is sent."""
        self._require(State.STREAMING, "a done frame")
        if (event.batches, event.grains) != (self.batches, self.grains):
            raise _refuse(
                f"{self.batches} batches, {self.grains} grains arrived of {event.batches}, {event.grains}",
                "stream",
            )
        self.state = State.FINISHING

    def finished(self) -> Ack:
        """Everything is durable and the disk is complete; the last ack."""
        self._require(State.FINISHING, "the last ack")
        self.state = State.FINISHED
        self.durable = self.batches
        self.pending_bytes = 0
        return Ack(self.durable, done=True, kept_sequence=self.batches)

    def _require(self, state: State, what: str) -> None:
        if self.state is not state:
            raise _refuse(f"{what} is out of place on a stream that is {self.state.value}", "stream")

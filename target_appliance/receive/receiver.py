"""Drives one write stream: frames in, sealed grains down, acks out."""

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from common.errors import ProtocolError
from common.grain import grain_count
from common.grain_check import check_grain
from common.sync import codec
from common.sync.events import Ack, Batch, Done, GrainRecord, Open
from common.sync.machine import Receiver
from common.wire.v1 import replication_pb2 as wire

DURABLE_BYTES: Final = 16 << 20
"""Data after which what was sealed is made durable and acknowledged: a quarter of the window, so that the sender never
waits for it on a fast store, and an fsync is rare on a slow one."""


class Disk(Protocol):
    """A staged disk, as the receiver writes it."""

    def append(self, records: list[GrainRecord]) -> None:
        """Seal and append; records are checked and rise by grain."""
        ...

    def sync(self) -> None:
        """Make durable what was appended."""
        ...

    def finish(self) -> None:
        """Complete the disk's files, durable."""
        ...


class Stream(Protocol):
    """What surrounds a stream: the sync it belongs to."""

    def open(self, event: Open) -> tuple[Disk, int]:
        """The disk that the stream writes, and its capacity in bytes; once."""
        ...

    def take(self, data_bytes: int) -> None:
        """A frame with so much data came; returns when it may be kept.

        Raises:
            FencedError: the sync is over.
            CertificateError, AccessDeniedError: the caller is not let in any more.
            LimitExceededError: the tenant may store no more.
        """
        ...

    def finished(self) -> None:
        """The disk is complete and durable."""
        ...

    def cut(self) -> None:
        """The frames ended before a done frame, as they do when the connection breaks; another stream may go on."""
        ...


def receive(frames: Iterable[bytes], stream: Stream) -> Iterator[wire.WriteAck]:
    """Acks for ``frames``, as they become true.

    Raises:
        ProtocolError, InvalidInputError: a frame breaks a rule; nothing of that frame was kept.
        KeysapartError: the stream's or the store's.
    """
    machine = Receiver()
    disk: Disk | None = None
    answer_each = False
    for frame in frames:
        event = codec.decode(frame)
        if isinstance(event, Open):
            if disk is not None:
                raise _out_of_place("a second open frame")
            disk, capacity_bytes = stream.open(event)
            answer_each = event.answer_each
            machine.opened(grain_count(capacity_bytes))
            continue
        if disk is None:
            raise _out_of_place("a frame before the open frame")
        stream.take(event.data_bytes if isinstance(event, Batch) else 0)
        if isinstance(event, Batch):
            _keep(event, machine, disk)
            if machine.pending_bytes >= DURABLE_BYTES:
                disk.sync()
                yield codec.encode_ack(machine.made_durable())
            elif answer_each:
                yield codec.encode_ack(machine.kept())
        else:
            yield codec.encode_ack(_complete(event, machine, disk, stream))
            return
    stream.cut()
    raise ProtocolError(
        "the stream ended before its done frame", subject="stream", next_step="sync again; nothing was committed"
    )


def _keep(batch: Batch, machine: Receiver, disk: Disk) -> None:
    machine.batch(batch)
    for record in batch.records:
        check_grain(record)
    disk.append(list(batch.records))


def _complete(event: Done, machine: Receiver, disk: Disk, stream: Stream) -> Ack:
    machine.done(event)
    disk.finish()
    stream.finished()
    return machine.finished()


def _out_of_place(what: str) -> ProtocolError:
    return ProtocolError(f"{what} is out of place", subject="stream", next_step="upgrade the older of the two halves")

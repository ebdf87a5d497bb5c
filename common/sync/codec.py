"""Events to frames and back; the only reader and writer of the stream's bytes.

A frame on the wire is the protobuf message ``WriteFrame`` and nothing else, but a batch's ``data`` never goes through
the protobuf library: it is joined into the frame once when sent, and left where it arrived when received. For 800 MiB
in frames of 1 MiB over TLS, both ends took 2.0 s of processor time that way and 2.8 s the library's. What is laid out
in another order than ours (another writer's) takes the library's way. Everything is bounded before it is sliced:
column lengths must agree and add up to the data.
"""

from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from common.errors import ProtocolError
from common.grain import DIGEST_BYTES, GrainKind
from common.ids import parse_disk_key, parse_sync
from common.sync.events import Ack, Batch, Done, GrainRecord, Open
from common.wire.v1 import replication_pb2 as wire

WRITE_METHOD: Final = "/keysapart.v1.Replication/WriteDisk"
"""The method whose requests both ends hand over as bytes."""

_KINDS: Final = {kind.value: kind for kind in GrainKind}

# Tags of length-delimited fields: number << 3 | 2.
_BATCH_TAG: Final = 0x12
_DATA_TAG: Final = 0x32
_VARINT: Final = 0
_DELIMITED: Final = 2
_WIRE_TYPE: Final = 7
_VARINT_MOST_BYTES: Final = 10


def encode(event: Open | Batch | Done) -> bytes:
    """The frame that carries ``event``."""
    match event:
        case Open(sync, disk, answer_each):
            opening = wire.WriteOpen(sync=sync, disk=disk, answer_each=answer_each)
            return wire.WriteFrame(open=opening).SerializeToString()
        case Done(batches, grains):
            return wire.WriteFrame(done=wire.WriteDone(batches=batches, grains=grains)).SerializeToString()
        case Batch(sequence, records):
            return _encode_batch(sequence, records)


def _encode_batch(sequence: int, records: Sequence[GrainRecord]) -> bytes:
    index, kind, digest, data = zip(*records, strict=True)
    lengths = [len(piece) for piece in data]
    columns = wire.GrainBatch(
        sequence=sequence, index=index, kind=bytes(kind), digest=b"".join(digest), length=lengths
    ).SerializeToString()
    tail = bytes((_DATA_TAG,)) + _varint(sum(lengths))
    size = len(columns) + len(tail) + sum(lengths)
    return b"".join((bytes((_BATCH_TAG,)), _varint(size), columns, tail, *data))


def batch_message(batch: Batch) -> wire.GrainBatch:
    """A batch as the protobuf library's own message, where speed does not matter."""
    index, kind, digest, data = zip(*batch.records, strict=True)
    return wire.GrainBatch(
        sequence=batch.sequence,
        index=index,
        kind=bytes(kind),
        digest=b"".join(digest),
        length=[len(piece) for piece in data],
        data=b"".join(data),
    )


def batch_of(message: wire.GrainBatch) -> Batch:
    """The batch in ``message``. Raises ProtocolError: its columns disagree."""
    return _batch(message, memoryview(message.data))


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def decode(frame: bytes) -> Open | Batch | Done:
    """The event that ``frame`` carries; a batch's data are views of ``frame``.

    Raises:
        ProtocolError: the frame is none, or its columns disagree.
        InvalidInputError: a name in it is malformed.
    """
    found = _split_batch(frame)
    if found is not None:
        return _batch(*found)
    try:
        message = wire.WriteFrame.FromString(frame)
    except DecodeError:
        raise _malformed("a frame arrived that is none") from None
    match message.WhichOneof("frame"):
        case "batch":
            return batch_of(message.batch)
        case "open":
            opening = message.open
            return Open(parse_sync(opening.sync), parse_disk_key(opening.disk), opening.answer_each)
        case "done":
            return Done(message.done.batches, message.done.grains)
        case _:
            raise _malformed("an empty frame arrived")


def _split_batch(frame: bytes) -> tuple[wire.GrainBatch, memoryview] | None:
    """A batch's columns and data, if the frame is one batch whose last field is ``data``; else None."""
    try:
        if frame[0] != _BATCH_TAG:
            return None
        size, begin = _read_varint(frame, 1)
        if begin + size != len(frame):
            return None
        at = begin
        while frame[at] != _DATA_TAG:
            at = _skip_field(frame, at)
        length, start = _read_varint(frame, at + 1)
        if start + length != len(frame):
            return None
        return wire.GrainBatch.FromString(frame[begin:at]), memoryview(frame)[start:]
    except (IndexError, ValueError, DecodeError):
        return None


def _read_varint(frame: bytes, at: int) -> tuple[int, int]:
    """The number at ``at``, and where the next thing begins. Raises IndexError, ValueError."""
    number = 0
    for place in range(_VARINT_MOST_BYTES):
        byte = frame[at + place]
        number |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    raise ValueError("the varint does not end")


def _skip_field(frame: bytes, at: int) -> int:
    key, at = _read_varint(frame, at)
    number, at = _read_varint(frame, at)
    if key & _WIRE_TYPE == _VARINT:
        return at
    if key & _WIRE_TYPE == _DELIMITED:
        return at + number
    raise ValueError("no field of ours")


def _malformed(what: str) -> ProtocolError:
    return ProtocolError(what, subject="stream", next_step="upgrade the older of the two halves and sync again")


def _batch(columns: wire.GrainBatch, data: memoryview) -> Batch:
    index, kind, digest, length = columns.index, columns.kind, columns.digest, columns.length
    count = len(index)
    if not len(kind) == len(length) == count or len(digest) != count * DIGEST_BYTES or sum(length) != len(data):
        raise _malformed(f"the columns of batch {columns.sequence} disagree")
    records = []
    begin = 0
    for place, (grain, number, size) in enumerate(zip(index, kind, length, strict=True)):
        known = _KINDS.get(number)
        if known is None:
            raise _malformed(f"grain kind {number} is unknown")
        end = begin + size
        at = place * DIGEST_BYTES
        records.append(GrainRecord(grain, known, digest[at : at + DIGEST_BYTES], data[begin:end]))
        begin = end
    return Batch(columns.sequence, records)


def encode_ack(ack: Ack) -> wire.WriteAck:
    """The wire form of an ack."""
    return wire.WriteAck(durable_sequence=ack.durable_sequence, done=ack.done, kept_sequence=ack.kept_sequence)


def decode_ack(ack: wire.WriteAck) -> Ack:
    """The ack that the wire carries."""
    return Ack(ack.durable_sequence, done=ack.done, kept_sequence=ack.kept_sequence)

"""Events to wire frames and back; the only reader and writer of the stream's protobuf types.

Decoding slices the frame's one ``data`` field per grain. Everything is bounded before it is sliced: column lengths must
agree, and the lengths must add up to the data.
"""

from common.errors import ProtocolError
from common.grain import DIGEST_BYTES, GrainKind
from common.ids import parse_disk_key, parse_sync
from common.sync.events import Ack, Batch, Done, GrainRecord, Open
from common.wire.v1 import replication_pb2 as wire

_KINDS = {kind.value: kind for kind in GrainKind}


def encode(event: Open | Batch | Done) -> wire.WriteFrame:
    """The frame that carries ``event``."""
    match event:
        case Open(sync, disk):
            return wire.WriteFrame(open=wire.WriteOpen(sync=sync, disk=disk))
        case Done(batches, grains):
            return wire.WriteFrame(done=wire.WriteDone(batches=batches, grains=grains))
        case Batch(sequence, records):
            index, kind, digest, data = zip(*records, strict=True)
            return wire.WriteFrame(
                batch=wire.GrainBatch(
                    sequence=sequence,
                    index=index,
                    kind=bytes(kind),
                    digest=b"".join(digest),
                    length=[len(piece) for piece in data],
                    data=b"".join(data),
                )
            )


def _malformed(what: str) -> ProtocolError:
    return ProtocolError(what, subject="stream", next_step="upgrade the older of the two halves and sync again")


def decode(frame: wire.WriteFrame) -> Open | Batch | Done:
    """The event that ``frame`` carries.

    Raises:
        ProtocolError: the frame is empty, or its columns disagree.
        InvalidInputError: a name in it is malformed.
    """
    match frame.WhichOneof("frame"):
        case "batch":
            return _decode_batch(frame.batch)
        case "open":
            return Open(parse_sync(frame.open.sync), parse_disk_key(frame.open.disk))
        case "done":
            return Done(frame.done.batches, frame.done.grains)
        case _:
            raise _malformed("an empty frame arrived")


def _decode_batch(batch: wire.GrainBatch) -> Batch:
    index, kind, digest, length, data = batch.index, batch.kind, batch.digest, batch.length, batch.data
    count = len(index)
    if not len(kind) == len(length) == count or len(digest) != count * DIGEST_BYTES or sum(length) != len(data):
        raise _malformed(f"the columns of batch {batch.sequence} disagree")
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
    return Batch(batch.sequence, records)


def encode_ack(ack: Ack) -> wire.WriteAck:
    """The wire form of an ack."""
    return wire.WriteAck(durable_sequence=ack.durable_sequence, done=ack.done)


def decode_ack(ack: wire.WriteAck) -> Ack:
    """The ack that the wire carries."""
    return Ack(ack.durable_sequence, done=ack.done)

"""Both machines joined in memory: whatever the sender may send the receiver takes, and nothing else."""

import contextlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import KeysapartError, ProtocolError
from common.grain import GRAIN_BYTES, ZERO_DIGEST, GrainKind
from common.sync import codec
from common.sync.events import Ack, Batch, Done, GrainRecord, Open
from common.sync.machine import Receiver, Sender, State
from common.wire.v1 import replication_pb2 as wire

SYNC = "00000000-0000-4000-8000-000000000001"
_steps = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 2000), st.booleans()), max_size=12)


def _records(first, count, size):
    kind = GrainKind.LZ4 if size else GrainKind.ZERO
    return [GrainRecord(first + place, kind, ZERO_DIGEST, bytes(size)) for place in range(count)]


@given(_steps, st.integers(2000, 9000))
def test_the_pair_agrees(steps, window):
    sender, receiver = Sender(window), Receiver(window)
    codec.decode(codec.encode(sender.open(Open(SYNC, 2000))))
    receiver.opened(1 << 20)
    grain = sequence = 0
    for count, size, acknowledge in steps:
        records = _records(grain, count, size)
        grain += count
        if not sender.may_send(count * size):
            sender.acknowledged(receiver.made_durable())
        sequence += 1
        frame = codec.encode(sender.batch(Batch(sequence, records)))
        event = codec.decode(frame)
        assert event == Batch(sequence, records)
        assert wire.WriteFrame.FromString(frame).batch.data == b"".join(record.data for record in records)
        receiver.batch(event)
        assert sender.unacknowledged_bytes <= max(window, count * size)
        if acknowledge:
            ack = receiver.made_durable()
            sender.acknowledged(codec.decode_ack(codec.encode_ack(ack)))
            assert sender.unacknowledged_bytes == 0
    receiver.done(sender.done())
    sender.acknowledged(receiver.finished())
    assert sender.state is receiver.state is State.FINISHED
    assert (sender.batches, sender.grains) == (receiver.batches, receiver.grains) == (sequence, grain)


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 900)), max_size=14),
    st.lists(st.integers(0, 9), max_size=8),
    st.sets(st.integers(0, 40)),
)
def test_cut_anywhere_each_grain_is_kept_once(batches, cuts, durable):
    """Streams one after the other, each cut after so many events; the next carries what lies above the watermark."""
    wanted, grain = [], 0
    for gap, size in batches:
        grain += gap
        wanted += _records(grain, 1, size)
    kept, events = [], 0
    for length in [*cuts, None]:
        above = kept[-1].grain + 1 if kept else 0
        sender, receiver = Sender(2000), Receiver(2000)
        sender.open(Open(SYNC, 2000, answer_each=True))
        receiver.opened(grain + 1)
        for sent, record in enumerate([record for record in wanted if record.grain >= above][:length], start=1):
            events += 1
            size = len(record.data)
            if not sender.may_send(size, 1000):
                sender.acknowledged(codec.decode_ack(codec.encode_ack(receiver.kept())))
            if not sender.may_send(size, 1000):
                sender.acknowledged(receiver.made_durable())
            event = codec.decode(codec.encode(sender.batch(Batch(sent, [record]))))
            receiver.batch(event)
            kept += event.records
            assert sender.under_way_bytes <= max(1000, size)
            if events in durable:
                sender.acknowledged(receiver.made_durable())
                assert sender.under_way_bytes == sender.unacknowledged_bytes == 0
        if length is None:
            receiver.done(sender.done())
            sender.acknowledged(receiver.finished())
            assert sender.state is State.FINISHED
    assert kept == wanted


def _streaming():
    receiver = Receiver(window_bytes=4096)
    receiver.opened(10)
    receiver.batch(Batch(1, _records(3, 1, 100)))
    return receiver


def _vars(machine):
    return {name: value for name, value in vars(machine).items() if not name.startswith("_under")}


BAD_BATCHES = {
    "sequence repeats": Batch(1, _records(4, 1, 100)),
    "sequence jumps": Batch(3, _records(4, 1, 100)),
    "empty": Batch(2, []),
    "too many grains": Batch(2, _records(4, 257, 0)),
    "grain repeats": Batch(2, _records(3, 1, 100)),
    "grain falls": Batch(2, [*_records(5, 1, 1), *_records(4, 1, 1)]),
    "past the end": Batch(2, _records(10, 1, 100)),
    "zero with data": Batch(2, [GrainRecord(4, GrainKind.ZERO, ZERO_DIGEST, b"x")]),
    "raw too short": Batch(2, [GrainRecord(4, GrainKind.RAW, ZERO_DIGEST, b"x")]),
    "lz4 not shorter": Batch(2, [GrainRecord(4, GrainKind.LZ4, ZERO_DIGEST, bytes(GRAIN_BYTES))]),
    "digest too short": Batch(2, [GrainRecord(4, GrainKind.ZERO, b"1", b"")]),
    "over the window": Batch(2, _records(4, 2, 2000)),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_a_bad_batch_changes_nothing(name):
    receiver = _streaming()
    before = _vars(receiver)
    with pytest.raises(ProtocolError):
        receiver.batch(BAD_BATCHES[name])
    assert _vars(receiver) == before
    receiver.batch(Batch(2, _records(4, 1, 100)))


def test_moves_out_of_place_are_refused():
    with pytest.raises(ProtocolError):
        Receiver().batch(Batch(1, _records(0, 1, 1)))
    with pytest.raises(ProtocolError):
        Receiver().done(Done(0, 0))
    with pytest.raises(ProtocolError):
        _streaming().opened(10)
    with pytest.raises(ProtocolError):
        _streaming().done(Done(1, 2))
    with pytest.raises(ProtocolError):
        _streaming().finished()
    sender = Sender(100)
    with pytest.raises(ProtocolError):
        sender.batch(Batch(1, _records(0, 1, 1)))
    with pytest.raises(ProtocolError):
        sender.acknowledged(Ack(0))
    sender.open(Open(SYNC, 1))
    with pytest.raises(ProtocolError):
        sender.open(Open(SYNC, 1))
    with pytest.raises(ProtocolError):
        sender.batch(Batch(2, _records(0, 1, 1)))
    sender.batch(Batch(1, _records(0, 1, 90)))
    with pytest.raises(ProtocolError, match="window"):
        sender.batch(Batch(2, _records(1, 1, 90)))
    for ack in (Ack(2), Ack(0, kept_sequence=2), Ack(1, done=True)):
        with pytest.raises(ProtocolError):
            sender.acknowledged(ack)
    sender.acknowledged(Ack(1))
    with pytest.raises(ProtocolError):
        sender.acknowledged(Ack(0))


@given(st.binary(max_size=400) | st.binary(max_size=100).map(lambda tail: b"\x12" + bytes([len(tail)]) + tail))
@example(b"")
@example(b"\x12")
@example(b"\x12\x01\x32")
@example(b"\x12\x02\x32\x7f")
@example(b"\x12" + b"\xff" * 12)
@example(b"\x12\x03\x0d\x01\x02")
def test_garbage_is_an_event_or_our_error(data):
    with contextlib.suppress(KeysapartError):
        codec.decode(data)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": b"\x01\x01"},
        {"kind": b"\x07"},
        {"digest": b"123"},
        {"length": [4]},
        {"index": [1, 2]},
    ],
)
def test_columns_that_disagree(change):
    good = {"sequence": 1, "index": [1], "kind": b"\x02", "digest": bytes(16), "length": [3], "data": b"abc"}
    assert codec.decode(wire.WriteFrame(batch=wire.GrainBatch(**good)).SerializeToString())
    with pytest.raises(ProtocolError):
        codec.decode(wire.WriteFrame(batch=wire.GrainBatch(**(good | change))).SerializeToString())


def test_another_writers_order_of_fields_is_fine():
    records = _records(3, 2, 100)
    ours = codec.encode(Batch(1, records))
    body = wire.WriteFrame.FromString(ours).batch
    data = wire.GrainBatch(data=body.data).SerializeToString()
    body.ClearField("data")
    moved = wire.WriteFrame(batch=wire.GrainBatch()).SerializeToString()[:1]
    inner = data + body.SerializeToString()
    frame = moved + bytes([len(inner) & 0x7F | 0x80, len(inner) >> 7]) + inner
    assert len(inner) < 1 << 14
    assert codec.decode(frame) == codec.decode(ours) == Batch(1, records)

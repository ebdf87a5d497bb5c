"""The agent's sender and the appliance's receiver, joined without a network."""

import os
import queue
import threading

import grpc
import pytest

from common.errors import FencedError, InternalError, ProtocolError, StoreFullError, TargetUnavailableError
from common.grain import GRAIN_BYTES, GrainKind, digest
from common.sync import codec
from common.sync.events import WINDOW_BYTES, Batch, Done, GrainRecord, Open
from source_agent.stream.flight import BATCH_BYTES, Flight
from source_agent.stream.sender import STALL_SECONDS, DiskSender, batches
from target_appliance.receive.receiver import DURABLE_BYTES, receive
from tests.fakes.clock import ManualClock

SYNC = "00000000-0000-4000-8000-000000000001"


class _Disk:
    def __init__(self, *, full_after=None):
        self.kept, self.durable, self.finished, self.full_after = [], 0, False, full_after

    def append(self, records):
        if self.full_after is not None and len(self.kept) >= self.full_after:
            raise StoreFullError("no room", subject="store", next_step="make room")
        self.kept.extend(records)

    def sync(self):
        self.durable = len(self.kept)

    def finish(self):
        self.durable, self.finished = len(self.kept), True


class _Stream:
    def __init__(self, disk, capacity=1 << 40):
        self.disk, self.capacity, self.frames, self.over, self.done = disk, capacity, 0, False, False
        self.cuts = 0

    def open(self, event):
        assert (event.sync, event.disk) == (SYNC, 2000)
        return self.disk, self.capacity

    def take(self, _data_bytes):
        self.frames += 1
        if self.over:
            raise FencedError("over", subject="sync", next_step="again")

    def finished(self):
        self.done = True

    def cut(self):
        self.cuts += 1


class _Call:
    """Acks as gRPC hands them out, and the frames' thread behind them."""

    def __init__(self, frames, stream):
        self._acks = queue.Queue()
        self._cancelled = False
        self._thread = threading.Thread(target=self._run, args=(frames, stream), daemon=True)
        self._thread.start()

    def _run(self, frames, stream):
        try:
            for ack in receive(self._until_cancelled(frames), stream):
                self._acks.put(ack)
            self._acks.put(None)
        except Exception as error:  # noqa: BLE001 - handed to the reader, as gRPC does
            self._acks.put(error)

    def _until_cancelled(self, frames):
        for frame in frames:
            if self._cancelled:
                return
            yield frame

    def __iter__(self):
        while (item := self._acks.get()) is not None:
            if isinstance(item, Exception):
                raise _Failed(item)
            yield item

    def cancel(self):
        self._cancelled = True


class _Failed(grpc.RpcError):
    def __init__(self, error):
        super().__init__(str(error))
        self.error = error


class _Target:
    def __init__(self, stream):
        self.stream = stream

    def write(self, frames, held):
        return _Call(frames, self.stream)

    def explain(self, error):
        return error.error


def _raw(count, first=0):
    grain = os.urandom(GRAIN_BYTES)
    mark = digest(grain)
    return [GrainRecord(first + place, GrainKind.RAW, mark, grain) for place in range(count)]


def _send(disk, groups, window=WINDOW_BYTES):
    stream = _Stream(disk)
    return stream, DiskSender(_Target(stream), SYNC, 2000, window).send(groups)


def test_everything_arrives_durable():
    disk = _Disk()
    records = _raw(700)
    stream, sent = _send(disk, [records[:5], [], records[5:]])
    assert disk.kept == records
    assert disk.finished
    assert stream.done
    assert sent.grains == 700
    assert sent.batches == -(-700 * GRAIN_BYTES // BATCH_BYTES)
    assert 1.0 < sent.wire_bytes / (700 * GRAIN_BYTES) < 1.01


def test_an_unchanged_disk_is_an_empty_stream():
    disk = _Disk()
    stream, sent = _send(disk, [])
    assert stream.done
    assert (sent.grains, sent.batches) == (0, 0)


def test_on_a_link_that_broke_one_grain_is_under_way():
    flight = Flight()
    flight.cut()
    disk = _Disk()
    stream = _Stream(disk)
    sender = DiskSender(_Target(stream), SYNC, 2000, WINDOW_BYTES, flight=flight)
    most = []

    def groups():
        for record in _raw(64):
            most.append(sender._machine.under_way_bytes)
            yield [record]

    assert 32 < sender.send(groups()).batches < 64
    assert max(most) <= 4 * GRAIN_BYTES
    assert max(most[:16]) <= GRAIN_BYTES
    assert disk.kept == disk.kept[: disk.durable]


def test_what_is_under_way_grows_with_what_the_link_bears():
    flight = Flight()
    assert (flight.under_way, flight.batch_bytes) == (None, BATCH_BYTES)
    flight.cut()
    assert (flight.under_way, flight.batch_bytes) == (GRAIN_BYTES, GRAIN_BYTES)
    flight.kept(64 << 20)
    assert (flight.under_way, flight.batch_bytes) == (4 << 20, BATCH_BYTES)
    flight.cut()
    assert flight.under_way == GRAIN_BYTES


class _Mute(_Target):
    """Takes frames and never answers."""

    def write(self, frames, held):
        self.call = _MuteCall(frames)
        return self.call


class _MuteCall:
    def __init__(self, frames):
        self._cancelled = threading.Event()
        self.taken = [next(frames)]

    def __iter__(self):
        self._cancelled.wait(30)
        raise _Failed(InternalError("cancelled", subject="call", next_step="-"))
        yield

    def cancel(self):
        self._cancelled.set()


def test_a_target_that_takes_nothing_is_a_broken_link():
    clock = ManualClock()
    sender = DiskSender(_Mute(None), SYNC, 2000, WINDOW_BYTES, clock=clock)
    sender.start([])
    clock.advance(STALL_SECONDS - 1)
    sender.cut_if_stalled()
    clock.advance(2)
    sender.cut_if_stalled()
    with pytest.raises(TargetUnavailableError, match="taken no data of disk 2000 for 20 seconds"):
        sender.finish()


def test_a_small_window_only_makes_the_sender_wait():
    disk = _Disk()
    _, sent = _send(disk, [_raw(600)], window=DURABLE_BYTES + BATCH_BYTES)
    assert sent.grains == len(disk.kept) == 600


def test_the_sources_failure_is_the_one_that_is_raised():
    def groups():
        yield _raw(20)
        raise InternalError("the reader broke", subject="disk", next_step="mend it")

    disk = _Disk()
    with pytest.raises(InternalError, match="the reader broke"):
        _send(disk, groups())
    assert not disk.finished


def test_the_targets_failure_ends_the_sender():
    with pytest.raises(StoreFullError):
        _send(_Disk(full_after=32), [_raw(400)])


def test_batches_are_bounded_by_bytes_and_by_grains():
    small = [GrainRecord(n, GrainKind.LZ4, bytes(16), b"x") for n in range(600)]
    assert [len(batch) for batch in batches([small], Flight())] == [256, 256, 88]
    assert [len(batch) for batch in batches([_raw(20)], Flight())] == [16, 4]


def _frames(*events):
    return [codec.encode(event) for event in events]


@pytest.mark.parametrize(
    "events",
    [
        [Batch(1, _raw(1))],
        [Open(SYNC, 2000), Open(SYNC, 2000)],
        [Open(SYNC, 2000), Batch(1, _raw(1))],
        [Open(SYNC, 2000), Batch(2, _raw(1)), Done(1, 1)],
        [Open(SYNC, 2000), Batch(1, _raw(1)), Done(1, 2)],
        [Open(SYNC, 2000), Batch(1, [GrainRecord(0, GrainKind.RAW, bytes(16), bytes(GRAIN_BYTES))]), Done(1, 1)],
    ],
    ids=["no open", "two opens", "no done", "wrong sequence", "wrong count", "wrong digest"],
)
def test_a_broken_stream_finishes_nothing(events):
    disk = _Disk()
    stream = _Stream(disk)
    with pytest.raises(ProtocolError):
        list(receive(_frames(*events), stream))
    assert not disk.finished
    assert not stream.done


def test_nothing_of_an_altered_frame_is_kept():
    good, bad = _raw(1)[0], GrainRecord(1, GrainKind.RAW, bytes(16), bytes(GRAIN_BYTES))
    disk = _Disk()
    with pytest.raises(ProtocolError):
        list(receive(_frames(Open(SYNC, 2000), Batch(1, [good, bad])), _Stream(disk)))
    assert disk.kept == []


def test_a_sync_that_is_over_takes_no_frame():
    disk = _Disk()
    stream = _Stream(disk)
    stream.over = True
    with pytest.raises(FencedError):
        list(receive(_frames(Open(SYNC, 2000), Batch(1, _raw(1))), stream))
    assert disk.kept == []


def test_a_stream_that_was_cancelled_never_says_that_the_disk_is_complete():
    """A target that goes on with the sync later would leave the rest of the disk out."""

    class _Deaf:
        def write(self, frames, *_):
            self.frames = frames
            return self

        def cancel(self):
            """The frames' thread has not heard of it yet."""

    target = _Deaf()
    sender = DiskSender(target, SYNC, 2000, WINDOW_BYTES)

    def records():
        yield _raw(BATCH_BYTES // GRAIN_BYTES)
        sender.cancel()

    sender.start(records())
    events = [codec.decode(frame) for frame in target.frames]
    assert [type(event) for event in events] == [Open, Batch]

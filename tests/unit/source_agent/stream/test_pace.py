import itertools
import threading

from common.bucket import SLICE_SECONDS, Bucket
from source_agent.stream.pace import Pace
from tests.fakes.clock import ManualClock

MIB = 1 << 20


class Slept(ManualClock):
    """Remembers how long it was slept; safe for threads."""

    def __init__(self):
        super().__init__()
        self.naps = []
        self.lock = threading.Lock()

    def sleep(self, seconds):
        with self.lock:
            self.naps.append(seconds)
            self.advance(seconds)


def never():
    return False


def test_a_frame_larger_than_the_rate_goes_and_is_paid_for_afterwards():
    bucket = Bucket()
    assert bucket.take(8 * MIB, 10.0, MIB) == 0.0
    assert bucket.take(MIB, 10.0, MIB) == 8.0
    assert bucket.take(MIB, 17.0, MIB) == 1.0
    assert bucket.take(MIB, 18.0, MIB) == 0.0


def test_an_idle_hour_is_not_saved_up():
    bucket = Bucket()
    bucket.take(1, 0.0, MIB)
    assert bucket.take(MIB, 3600.0, MIB) == 0.0
    assert bucket.take(MIB, 3600.0, MIB) == 0.75


def test_no_limit_leaves_no_debt_behind():
    bucket = Bucket()
    bucket.take(100 * MIB, 0.0, MIB)
    assert bucket.take(MIB, 0.0, None) == 0.0
    assert bucket.take(MIB, 0.0, MIB) == 0.0


def test_frames_leave_at_the_rate_and_in_order():
    clock = Slept()
    pace = Pace(clock, lambda: float(MIB))
    before = clock.monotonic()
    frames = [bytes([number]) * MIB for number in range(11)]
    assert list(pace.paced(iter(frames), never)) == frames
    assert clock.monotonic() - before == 10.0
    assert max(clock.naps) <= SLICE_SECONDS


def test_all_streams_share_one_rate():
    clock = Slept()
    pace = Pace(clock, lambda: float(MIB))
    before = clock.monotonic()
    streams = [pace.paced(itertools.repeat(bytes(MIB), 6), never) for _ in range(2)]
    assert sum(1 for pair in zip(*streams, strict=True) for _ in pair) == 12
    assert clock.monotonic() - before == 11.0


def test_a_new_limit_counts_from_the_next_slice_on():
    clock = Slept()
    pace = Pace(clock, lambda: 1.0)
    frames = pace.paced(iter([bytes(MIB)] * 3), never)
    next(frames)
    clock.sleep = lambda _seconds: setattr(pace, "limit", lambda: None)
    assert len(list(frames)) == 2


def test_a_stream_that_has_ended_waits_no_longer():
    clock = Slept()
    pace = Pace(clock, lambda: 1.0)
    over = iter([False, False, False, True])
    frames = pace.paced(iter([bytes(MIB)] * 2), lambda: next(over))
    assert len(list(frames)) == 2
    assert len(clock.naps) == 2

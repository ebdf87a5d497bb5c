import pytest

from common.errors import LimitExceededError
from target_appliance.server.limits import IdleWatch, StreamCap
from tests.fakes.clock import ManualClock


class _Call:
    cancelled = 0

    def cancel(self):
        self.cancelled += 1


def test_a_slot_is_given_back_whatever_happens():
    cap = StreamCap(lambda _tenant: 1)
    with cap.slot("acme", "write"):
        with pytest.raises(LimitExceededError, match="acme"), cap.slot("acme", "write"):
            pass
        with cap.slot("rival", "write"), cap.slot("acme", "read"):
            pass
    with pytest.raises(ValueError), cap.slot("acme", "write"):
        raise ValueError
    with cap.slot("acme", "write"):
        pass


def test_only_silent_calls_are_cut():
    clock = ManualClock()
    watch = IdleWatch(clock, 60)
    silent, talking, ended = _Call(), _Call(), _Call()
    with watch.watched(silent), watch.watched(talking):
        with watch.watched(ended):
            clock.advance(50)
        watch.heard(talking)
        clock.advance(11)
        assert watch.cut() == 1
        assert (silent.cancelled, talking.cancelled, ended.cancelled) == (1, 0, 0)
        assert watch.cut() == 0


def test_the_watch_runs_and_stops():
    watch = IdleWatch(ManualClock(), 1)
    watch.start()
    watch.stop()

"""A link over a target that answers as the test says, on a clock that stands until it is moved."""

import pytest

from common.errors import FencedError, InterruptedSyncError, NotFoundError, TargetUnavailableError
from common.wire.v1 import replication_pb2 as wire
from source_agent.stream.link import Link
from tests.fakes.clock import ManualClock

SYNC = "00000000-0000-4000-8000-000000000001"
VM = "11111111-1111-4111-8111-111111111111"
CUT = TargetUnavailableError("the link is cut", subject="target", next_step="mend it")
POINT = wire.CommitSyncResponse(point=3)


def at(grain, *, finished=False):
    return wire.ResumeSyncResponse(disks=[wire.DiskProgress(disk=2000, finished=finished, next_grain=grain)])


class Script:
    """Answers in order; the last one for ever. Exceptions are raised."""

    def __init__(self, *answers, commits=()):
        self.answers, self.commits = list(answers), list(commits)
        self.connections = self.asked = 0

    def reconnect(self):
        self.connections += 1

    def resume(self, sync, replica):
        assert (sync, replica) == (SYNC, VM)
        self.asked += 1
        return self._next(self.answers)

    def commit(self, sync):
        return self._next(self.commits)

    @staticmethod
    def _next(answers):
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def clock():
    return ManualClock()


def linked(target, clock, patience=600.0, said=None):
    say = [].append if said is None else said.append
    return Link(target, clock, clock.sleep, say, sync=SYNC, replica=VM, patience_seconds=patience)


def test_one_break_is_mended_once_for_all_streams(clock):
    target = Script(at(5))
    link = linked(target, clock)
    with link.starting() as generation:
        pass
    assert [link.mend(generation, CUT) for _ in range(3)] == [at(5)] * 3
    assert (target.connections, target.asked) == (1, 1)
    assert link.flight.broken


def test_a_link_that_moves_is_mended_for_ever(clock):
    target = Script(*[at(grain) for grain in range(2000)])
    link = linked(target, clock)
    began = clock.monotonic()
    for generation in range(1999):
        clock.advance(1.0)
        link.mend(generation, CUT)
    assert clock.monotonic() - began == 1999, "no pause where every cut had brought something"


@pytest.mark.parametrize("answer", [CUT, at(0)], ids=["away", "never a grain"])
def test_patience_ends_in_one_sentence(clock, answer):
    said = []
    link = linked(Script(at(0), answer), clock, said=said)
    began = clock.monotonic()

    def mend_for_ever():
        for generation in range(100_000):
            link.mend(generation, CUT)

    with pytest.raises(TargetUnavailableError, match="for 10 minutes and the sync was given up") as caught:
        mend_for_ever()
    assert 600 <= clock.monotonic() - began < 620
    assert "sync again" in caught.value.next_step
    assert len(said) <= 1


def test_a_link_that_stood_long_begins_its_patience_anew(clock):
    link = linked(Script(at(0)), clock)
    for generation in range(50):
        link.mend(generation, CUT)
        clock.advance(400)


def test_no_patience_tries_once_and_says_why_not(clock):
    target = Script(CUT)
    with pytest.raises(TargetUnavailableError, match="the link is cut"):
        linked(target, clock, patience=0).mend(0, CUT)
    assert target.asked == 1


def test_it_says_when_it_waits_and_when_it_goes_on(clock):
    said = []
    linked(Script(CUT, CUT, CUT, at(1)), clock, said=said).mend(0, CUT)
    assert said == ["waiting up to 10 minutes for the target: the link is cut", "the target is back, going on"]


def test_a_sync_that_is_no_more(clock):
    gone = NotFoundError("no such sync is open", subject="sync", next_step="begin")
    with pytest.raises(TargetUnavailableError, match="no longer holds the sync"):
        linked(Script(gone), clock).mend(0, CUT)


def test_a_refusal_is_no_break(clock):
    refusal = FencedError("another took over", subject="sync", next_step="wait")
    with pytest.raises(FencedError):
        linked(Script(refusal), clock).mend(0, CUT)
    with pytest.raises(FencedError):
        linked(Script(at(0), commits=[refusal]), clock).commit()


def test_a_sync_that_is_to_end_waits_for_nothing(clock):
    def pause(_seconds):
        raise InterruptedSyncError("ended", subject="sync", next_step="-")

    target = Script(CUT)
    link = Link(target, clock, pause, print, sync=SYNC, replica=VM, patience_seconds=600)
    with pytest.raises(InterruptedSyncError):
        link.mend(0, CUT)
    assert target.asked == 0


COMMITTED = wire.ResumeSyncResponse(committed=POINT)
COMMITTING = wire.ResumeSyncResponse(committing=True)


@pytest.mark.parametrize(
    ("answers", "commits"),
    [
        ([COMMITTED], [CUT]),
        ([CUT, COMMITTED], [CUT]),
        ([COMMITTING, COMMITTING, COMMITTED], [CUT]),
        ([COMMITTING, CUT, COMMITTED], [CUT]),
        ([at(9, finished=True)], [CUT, POINT]),
        ([at(9, finished=True), COMMITTED], [CUT, CUT]),
    ],
)
def test_a_commit_whose_answer_is_lost(clock, answers, commits):
    assert linked(Script(*answers, commits=commits), clock).commit() == POINT

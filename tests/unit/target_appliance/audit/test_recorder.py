import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from common.errors import LimitExceededError, StoreError
from target_appliance.audit.check import read, verify
from target_appliance.audit.event import Event, What, Who
from target_appliance.audit.log import AuditLog
from target_appliance.audit.recorder import MOST_ACTS, MOST_KINDS, MOST_WAITING, Recorder
from tests.fakes.clock import ManualClock
from tests.unit.target_appliance.audit.conftest import event


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def recorder(place: Path, clock: ManualClock) -> Recorder:
    return Recorder(AuditLog(place, clock), clock)


def refusal(agent: str = "a", reason: str = "NOT_FOUND", cause: str = "x") -> Event:
    return Event(What.REFUSED, Who("agent", agent, "acme"), "call BeginSync", reason, {"cause": cause})


def told(place: Path) -> list[dict]:
    return [raw.line.members for raw in read(place) if raw.line is not None]


def test_a_refusal_is_told_at_once_and_its_like_are_counted(
    recorder: Recorder, clock: ManualClock, place: Path
) -> None:
    for number in range(10_000):
        recorder.refused(refusal(cause=f"try {number}"))
    recorder.refused(refusal(reason="BUSY"))
    assert [(one["outcome"], one["facts"]) for one in told(place)] == [
        ("NOT_FOUND", {"cause": "try 0"}),
        ("BUSY", {"cause": "x"}),
    ]
    clock.advance(59)
    recorder.settle()
    assert len(told(place)) == 2
    clock.advance(1)
    recorder.settle()
    assert [one["facts"] for one in told(place)[2:]] == [{"repeated": 9_999}]
    recorder.refused(refusal())
    assert told(place)[-1]["facts"] == {"cause": "x"}


def test_whoever_refuses_to_look_alike_fills_no_disk(recorder: Recorder, clock: ManualClock, place: Path) -> None:
    for _minute in range(3):
        for number in range(5_000):
            recorder.refused(refusal(agent=f"agent {number}"))
            recorder.refused(refusal(agent=f"agent {number}"))
        clock.advance(61)
        recorder.settle()
    lines = told(place)
    assert len(lines) <= 3 * (2 * MOST_KINDS + 1)
    counted = sum(one["facts"].get("repeated", 1) for one in lines)
    assert counted == 3 * 10_000  # none of them is forgotten
    assert max(len(raw.content) for raw in read(place)) < 1000


def test_the_last_words_of_a_process(recorder: Recorder, place: Path) -> None:
    recorder.refused(refusal())
    recorder.refused(refusal())
    recorder.settle(last=True)
    assert [one["facts"] for one in told(place)] == [{"cause": "x"}, {"repeated": 1}]


def test_a_tenants_acts_are_bounded_by_the_minute(recorder: Recorder, clock: ManualClock) -> None:
    for _ in range(MOST_ACTS):
        recorder.admit("acme")
    with pytest.raises(LimitExceededError, match="within a minute"):
        recorder.admit("acme")
    recorder.admit("globex")
    clock.advance(60)
    recorder.admit("acme")


@pytest.fixture
def broken(recorder: Recorder, place: Path) -> Callable[[], None]:
    """A log that cannot be written; call it to have it work again."""
    recorder.record(event(1), strict=True)
    aside = place.with_name("aside")
    place.rename(aside)
    place.write_text("in the way")

    def mend() -> None:
        place.unlink()
        aside.rename(place)

    return mend


def test_nothing_new_begins_while_the_log_cannot_be_written(
    recorder: Recorder, broken: Callable[[], None], place: Path, clock: ManualClock
) -> None:
    with pytest.raises(StoreError, match="nothing new is accepted"):
        recorder.record(event(2), strict=True)
    recorder.record(event(3, What.SYNC_COMMITTED), strict=False)
    recorder.refused(refusal())
    with pytest.raises(StoreError):
        recorder.admit("acme")
    recorder.settle()
    clock.advance(5)
    broken()

    recorder.admit("acme")

    assert verify(place).trouble is None
    assert [(one["what"], one["object"]) for one in told(place)] == [
        ("sync-begun", "replica 1"),
        ("log-resumed", "audit log"),
        ("sync-committed", "replica 3"),
        ("refused", "call BeginSync"),
    ]
    assert told(place)[1]["facts"] == {"waited": 2, "lost": 0}
    assert told(place)[2]["facts"]["at"] == "2026-11-24T12:00:00+00:00"
    assert told(place)[2]["time"] == "2026-11-24T12:00:05.000Z"


def test_what_there_is_no_room_for_is_counted(recorder: Recorder, broken: Callable[[], None], place: Path) -> None:
    for number in range(MOST_WAITING + 7):
        recorder.record(event(number), strict=False)
    broken()
    recorder.settle()
    resumed = told(place)[1]
    assert (resumed["what"], resumed["facts"]) == ("log-resumed", {"waited": MOST_WAITING, "lost": 7})
    assert len(told(place)) == 2 + MOST_WAITING


def test_a_log_that_is_gone_is_not_begun_anew(recorder: Recorder, place: Path) -> None:
    recorder.record(event(1), strict=True)
    shutil.rmtree(place)
    with pytest.raises(StoreError, match="gone"):
        recorder.record(event(2), strict=True)

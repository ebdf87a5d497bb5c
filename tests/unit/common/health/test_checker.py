import threading
from collections.abc import Callable

import pytest

from common.clock import SystemClock
from common.errors import KmsUnavailableError
from common.health.checker import (
    INTERVAL_SECONDS,
    PATIENCE_SECONDS,
    TICK_SECONDS,
    Check,
    Checker,
    Finding,
    judge,
)

FAST = {"interval": 0.01, "patience": 0.2, "tick": 0.01}


class Board:
    """Waits for what is reported."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.history: list[tuple[str, str | None]] = []

    def note(self, name: str, trouble: str | None) -> None:
        with self._changed:
            self.history.append((name, trouble))
            self._changed.notify_all()

    def wait_for(self, name: str, fits: Callable[[str | None], bool]) -> str | None:
        def newest() -> list[str | None]:
            return [trouble for noted, trouble in self.history if noted == name][-1:]

        with self._changed:
            assert self._changed.wait_for(lambda: any(fits(trouble) for trouble in newest()), timeout=30)
            return newest()[0]

    def works(self, name: str) -> None:
        self.wait_for(name, lambda trouble: trouble is None)

    def fails(self, name: str) -> str:
        return self.wait_for(name, lambda trouble: trouble is not None and "not been checked" not in trouble)


class Switch:
    """A check that passes, fails, breaks or hangs."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.free = threading.Event()
        self.free.set()

    def __call__(self) -> None:
        self.free.wait(60)
        if self.error is not None:
            raise self.error


DOWN = KmsUnavailableError("the KMS does not answer", subject="kms", next_step="start it")


@pytest.fixture
def board() -> Board:
    return Board()


@pytest.fixture
def running(board: Board, request: pytest.FixtureRequest) -> Callable[[dict[str, Check]], Checker]:
    def start(checks: dict[str, Check]) -> Checker:
        checker = Checker(checks, board.note, SystemClock(), **FAST)
        checker.start()
        request.addfinalizer(checker.stop)
        return checker

    return start


def test_a_failure_shows_within_ten_seconds_at_the_pace_of_the_product() -> None:
    assert INTERVAL_SECONDS + PATIENCE_SECONDS + TICK_SECONDS < 10


def test_nothing_works_before_it_was_checked() -> None:
    assert judge(Finding(), 100.0, 4.0) == "it has not been checked yet"


@pytest.mark.parametrize(("running_for", "late"), [(0.0, False), (4.0, False), (4.1, True), (1e6, True)])
def test_a_check_that_runs_too_long_counts_as_failed(running_for: float, late: bool) -> None:
    found = judge(Finding(None, 100.0), 100.0 + running_for, 4.0)
    assert (found == "it does not answer in time") is late


def test_a_check_under_way_keeps_the_last_answer_meanwhile() -> None:
    assert judge(Finding("broken", 100.0), 101.0, 4.0) == "broken"
    assert judge(Finding(None, 100.0), 101.0, 4.0) is None


def test_components_go_down_with_their_reason_and_come_back(board: Board, running) -> None:
    kms, store = Switch(), Switch()
    running({"kms": kms, "store": store})
    board.works("kms")
    board.works("store")
    kms.error = DOWN
    assert board.fails("kms") == "the KMS does not answer"
    kms.error = None
    board.works("kms")
    assert [trouble for name, trouble in board.history if name == "store"][-1] is None


def test_a_check_that_hangs_hides_no_other(board: Board, running) -> None:
    kms, store = Switch(), Switch()
    running({"kms": kms, "store": store})
    board.works("kms")
    kms.free.clear()
    assert board.fails("kms") == "it does not answer in time"
    store.error = DOWN
    assert board.fails("store") == "the KMS does not answer"
    kms.free.set()
    board.works("kms")


def test_a_check_that_breaks_counts_as_failed_without_its_text(board: Board, running) -> None:
    kms = Switch()
    kms.error = RuntimeError("secret")
    running({"kms": kms})
    told = board.wait_for("kms", lambda trouble: trouble is not None and "broke" in trouble)
    assert told == "its check broke (RuntimeError)"


def test_stopping_does_not_wait_for_what_hangs_and_ends_the_reports(board: Board) -> None:
    kms = Switch()
    kms.free.clear()
    checker = Checker({"kms": kms}, board.note, SystemClock(), **FAST)
    checker.start()
    board.fails("kms")
    checker.stop()
    told = len(board.history)
    kms.free.set()
    assert len(board.history) == told


def test_only_changes_are_reported(board: Board, running) -> None:
    counted = threading.Semaphore(0)
    running({"kms": counted.release})
    for _ in range(10):
        assert counted.acquire(timeout=30)
    assert [trouble for _, trouble in board.history if trouble is None] == [None]

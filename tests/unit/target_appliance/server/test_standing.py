"""How long a right holds that was given once."""

import pytest

from common.errors import AccessDeniedError, CertificateError, StoreError
from target_appliance.server.standing import ASK_SECONDS, Standing
from tests.fakes.clock import ManualClock


class _Doorman:
    def __init__(self):
        self.asked, self.answer = 0, None

    def __call__(self):
        self.asked += 1
        if self.answer is not None:
            raise self.answer
        return "who"


@pytest.fixture
def doorman():
    return _Doorman()


def _error(kind):
    return kind("out", subject="agent", next_step="-")


@pytest.mark.parametrize("kind", [CertificateError, AccessDeniedError, StoreError])
def test_whoever_is_refused_at_the_door_has_no_standing(doorman, kind):
    doorman.answer = _error(kind)
    with pytest.raises(kind):
        Standing(doorman, ManualClock())


@pytest.mark.parametrize("kind", [CertificateError, AccessDeniedError])
def test_a_right_that_ends_is_noticed_and_never_comes_back(doorman, kind):
    clock = ManualClock()
    standing = Standing(doorman, clock)
    doorman.answer = _error(kind)
    clock.advance(ASK_SECONDS - 0.1)
    standing.require()
    assert doorman.asked == 1
    clock.advance(0.1)
    for _ in range(2):
        with pytest.raises(kind):
            standing.require()
        doorman.answer = None
        clock.advance(ASK_SECONDS)
    assert doorman.asked == 2


def test_a_catalog_that_fails_ends_no_call_at_once_and_none_for_ever(doorman):
    clock = ManualClock()
    standing = Standing(doorman, clock)
    doorman.answer = _error(StoreError)
    for _ in range(8):
        clock.advance(ASK_SECONDS)
        standing.require()
    clock.advance(ASK_SECONDS)
    with pytest.raises(StoreError):
        standing.require()
    doorman.answer = None
    clock.advance(ASK_SECONDS)
    standing.require()

import pytest

from tests.fakes.clock import ManualClock


@pytest.fixture
def clock():
    return ManualClock()

import threading

import pytest

from common.errors import LimitExceededError, SourceUnavailableError
from source_agent.snapshot_limits import Limits, Watch, exceeded, watched
from source_agent.stop import Stop
from tests.faults.vsphere import FaultyVSphere

GIB = 1 << 30


@pytest.mark.parametrize(
    ("limits", "age", "size", "words"),
    [
        (Limits(), 1e9, 1 << 60, None),
        (Limits(max_age_seconds=3600), 3600, 0, None),
        (Limits(max_age_seconds=3600), 3661, 0, "is 1h 1m old and max_age allows 1h"),
        (Limits(max_bytes=GIB), 1e9, GIB, None),
        (Limits(max_bytes=GIB), 0, 3 * GIB // 2, "takes 1.5 GiB and max_size_gib allows 1.0"),
    ],
)
def test_limits(limits, age, size, words):
    told = exceeded(limits, "web01", age, size)
    assert (told is None) if words is None else words in told


class _Asked(Stop):
    """A stop that can be waited for."""

    def __init__(self):
        super().__init__()
        self.event = threading.Event()

    def ask(self, cause):
        super().ask(cause)
        self.event.set()


@pytest.fixture
def look(vsphere, clock):
    """The watch over a snapshot just taken."""
    vm = vsphere.vm("web01")
    taken = vsphere.create_snapshot(vm.moref, "s", "", quiesce=False)

    def make(stop, through=vsphere, **limits):
        return watched(Watch(through, vm, taken, Limits(look_seconds=0.001, **limits)), clock, stop)

    return make


@pytest.mark.parametrize("before", [0, 50])
def test_a_snapshot_that_grows_too_old_ends_the_sync(look, clock, before):
    stop = _Asked()
    clock.advance(before)
    with look(stop, max_age_seconds=60):
        clock.advance(61 - before)
        assert stop.event.wait(10)
    with pytest.raises(LimitExceededError, match="max_age allows 1m"):
        stop.check()


def test_a_snapshot_that_grows_too_large_ends_the_sync(vsphere, site, look):
    faulty = FaultyVSphere(vsphere)
    faulty.fail("snapshot_bytes", lambda: SourceUnavailableError("gone", subject="vcenter", next_step="wait"), count=2)
    moref, stop = vsphere.vm("web01").moref, _Asked()
    with look(stop, faulty, max_bytes=65536):
        site.write(moref, 2000, 0, bytes(65536))
        while faulty.calls["snapshot_bytes"] < 4:
            assert not stop.event.wait(0.001)
        site.write(moref, 2000, 0, b"x")
        assert stop.event.wait(10)
    with pytest.raises(LimitExceededError, match="max_size_gib"):
        stop.check()


def test_without_limits_nobody_looks(look):
    with look(Stop()):
        assert "snapshot" not in {thread.name for thread in threading.enumerate()}
    with look(Stop(), max_bytes=1 << 40):
        assert "snapshot" in {thread.name for thread in threading.enumerate()}

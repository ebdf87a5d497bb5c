"""A sync that is parked, and the next process: nothing is undone, and it goes on; asked to end, nothing is left."""

import dataclasses
import random
import signal
import threading
from datetime import timedelta

import pytest

from common.clock import SystemClock
from common.errors import InterruptedSyncError, LimitExceededError, ParkedSyncError, TargetUnavailableError
from source_agent import in_flight
from source_agent.agent import interruptible
from source_agent.disk_read.memory import MemoryReader
from source_agent.outlook import look_ahead
from source_agent.plan import Kind
from source_agent.replicate import sync_vm
from source_agent.snapshot_limits import Limits
from source_agent.stop import Stop
from tests.unit.source_agent.world import SIZES, Quiet

MIB = 1 << 20


class _Telling(MemoryReader):
    """Tells once, when it has read so many bytes of the first disk; knows which disks it has open."""

    def __init__(self, site, tell, after=2 * MIB):
        super().__init__(site)
        self.tell = tell
        self.left = after
        self.attached = []
        self.lock = threading.Lock()

    def open(self, snapshot, disk):
        opened = super().open(snapshot, disk)
        read_into = opened.read_into
        self.attached.append(disk.key)
        opened._release = lambda: self.attached.remove(disk.key)

        def telling(offset, buffer):
            read_into(offset, buffer)
            with self.lock:
                before, self.left = self.left, self.left - (len(buffer) if disk.key == 2000 else 0)
            if before > 0 >= self.left:
                self.tell()

        opened.read_into = telling
        return opened


class Aborts:
    """Notes what the target was told to give up, and tells it."""

    def __init__(self, monkeypatch, target):
        self.syncs = []
        abort = target.abort

        def noted(sync, cause):
            self.syncs.append(sync)
            abort(sync, cause)

        monkeypatch.setattr(target, "abort", noted)


@pytest.fixture
def aborts(world, monkeypatch):
    return Aborts(monkeypatch, world.agent.target).syncs


def noise(world, seed):
    for key, size in zip((2000, 2001), SIZES, strict=True):
        world.write(key, 0, random.Random(seed + key).randbytes(size))


def images(world):
    return {key: world.site.image(world.vm.moref, key) for key in (2000, 2001)}


def assert_held(world, point, content):
    assert {key: world.held(point, key) for key in content} == content


def stopped(world, *tellings, **changes):
    """An agent whose sync is told so in its middle."""
    stop = Stop()

    def tell():
        *others, (manner, cause) = tellings
        for before, why in others:
            stop.mark(why, parks=before == "park")  # acts on nothing yet, else the sync may have ended by this one
        getattr(stop, manner)(cause)

    return dataclasses.replace(world.agent, reader=_Telling(world.site, tell), stop=stop, **changes)


PARK = ("park", "SIGTERM ended the agent")


def park(world):
    """Park a sync in its middle; its note."""
    with pytest.raises(ParkedSyncError):
        world.sync(stopped(world, PARK))
    return note(world)


def note(world):
    return in_flight.load(world.agent.state_dir, world.vm.instance_uuid)


def age(world, seconds):
    """The sync was parked so long ago."""
    found = note(world)
    old = dataclasses.replace(found, parked=found.parked - timedelta(seconds=seconds))
    in_flight.save(world.agent.state_dir, world.vm.instance_uuid, old)


def sync(world, agent=None, requested=None):
    progress = Quiet()
    report = sync_vm(agent or world.agent, "web01", requested=requested, progress=progress)
    return report, [text for text in progress.said if isinstance(text, str)]


@pytest.mark.parametrize("delta", [False, True], ids=["full", "delta"])
def test_the_next_process_goes_on_with_what_was_parked(world, aborts, delta):
    noise(world, 1)
    if delta:
        world.sync()
        noise(world, 2)
    before = images(world)
    agent = stopped(world, PARK)
    with pytest.raises(ParkedSyncError) as caught:
        world.sync(agent)
    point = 2 if delta else 1
    (left,) = world.snapshots()
    assert caught.value.message == f"SIGTERM ended the agent, and the sync of VM web01 for point {point} is parked"
    assert caught.value.next_step.startswith("sync it again within 4h")
    assert caught.value.__notes__ == [f"snapshot {left.info.name} of VM web01 stands for it"]
    assert agent.reader.attached == []
    assert note(world).parked is not None
    assert list(in_flight.begun(world.agent.state_dir)) == [world.vm.instance_uuid]
    noise(world, 3)
    told = {one.rule: one.sentence for one in look_ahead(world.agent, "web01").findings}
    assert told["interrupted-sync"] == f"the sync for point {point} was parked, and its snapshot stands"
    report, said = sync(world)
    assert (report.resumed, report.point, report.kind) == (True, point, "delta" if delta else "full")
    assert f"web01: going on with the sync that was parked, for point {point}" in said
    assert_held(world, point, before)
    assert (world.snapshots(), note(world), aborts) == ([], None, [])
    later = images(world)
    report, _ = sync(world)
    assert (report.resumed, report.kind) == (False, "delta")
    assert_held(world, report.point, later)


def test_a_sync_may_be_parked_again_and_again(world, aborts):
    noise(world, 1)
    before = images(world)
    first = park(world)
    for _ in range(3):
        assert park(world).sync == first.sync
        assert len(world.snapshots()) == 1
    assert sync(world)[0].resumed
    assert_held(world, 1, before)
    assert (world.snapshots(), aborts) == ([], [])


ENDED = {
    "asked to end": [("ask", "SIGINT ended the agent")],
    "asked to end while it is parked": [PARK, ("ask", "SIGTERM ended the agent again")],
    "asked to be parked while it ends": [("ask", "SIGINT ended the agent"), PARK],
}


@pytest.mark.parametrize("how", ENDED)
def test_who_is_asked_to_end_leaves_nothing(world, aborts, how):
    noise(world, 1)
    with pytest.raises(InterruptedSyncError) as caught:
        world.sync(stopped(world, *ENDED[how]))
    assert type(caught.value) is InterruptedSyncError
    (told,) = caught.value.__notes__
    assert told.endswith("of VM web01 was removed")
    assert (world.snapshots(), note(world), len(aborts)) == ([], None, 1)
    assert sync(world)[0].point == 1


def test_a_snapshot_past_its_limits_is_not_parked(world):
    noise(world, 1)
    past = LimitExceededError("too old", subject="vm web01", next_step="raise it")
    with pytest.raises(LimitExceededError):
        world.sync(stopped(world, PARK, ("ask", past)))
    assert (world.snapshots(), note(world)) == ([], None)


class _Deciding(Quiet):
    """Asks when the plan is told: the snapshot is there, and nothing was sent."""

    def __init__(self, stop):
        super().__init__()
        self.stop = stop

    def say(self, text):
        super().say(text)
        if "disk 2000 " in text:
            self.stop.park("SIGTERM ended the agent")


def test_what_the_target_has_not_open_yet_is_not_parked(world):
    agent = stopped(world)
    with pytest.raises(InterruptedSyncError) as caught:
        sync_vm(agent, "web01", requested=None, progress=_Deciding(agent.stop))
    assert type(caught.value) is InterruptedSyncError
    assert (world.snapshots(), note(world)) == ([], None)


def test_what_the_target_has_open_from_before_is_parked_at_any_moment(world):
    noise(world, 1)
    before = images(world)
    first = park(world)
    agent = stopped(world)
    with pytest.raises(ParkedSyncError):
        sync_vm(agent, "web01", requested=None, progress=_Deciding(agent.stop))
    assert note(world).sync == first.sync
    assert sync(world)[0].resumed
    assert_held(world, 1, before)


def test_what_nobody_would_find_is_not_parked(world, monkeypatch):
    def full(*_):
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(in_flight, "save", full)
    noise(world, 1)
    with pytest.raises(InterruptedSyncError) as caught:
        world.sync(stopped(world, PARK))
    assert type(caught.value) is InterruptedSyncError
    assert world.snapshots() == []


def _is_old(world):
    age(world, world.agent.park_seconds)
    return {}


def _grew(world):
    noise(world, 2)
    return {"limits": Limits(max_bytes=MIB)}


def _was_given_up(world):
    world.agent.target.abort(note(world).sync, "park_hours is over")
    return {}


WHY_NOT = {
    "it was parked for longer than park_hours allows (4h)": _is_old,
    "the snapshot of VM web01 takes 0.0 GiB and max_size_gib allows": _grew,
    "max_age allows 0s": lambda _: {"limits": Limits(max_age_seconds=0.0, look_seconds=3600.0)},
    "the target holds it no longer": _was_given_up,
}


@pytest.mark.parametrize("why", WHY_NOT)
def test_why_it_does_not_go_on(world, why):
    noise(world, 1)
    park(world)
    agent = dataclasses.replace(world.agent, **WHY_NOT[why](world))
    foretold = "interrupted-sync" in {one.rule for one in look_ahead(agent, "web01").findings}
    assert foretold is (why == "the target holds it no longer")
    report, said = sync(world, agent)
    assert any("does not go on, " in text and why in text for text in said), said
    assert not report.resumed
    assert world.snapshots() == []
    world.assert_equal(report.point)


def test_it_goes_on_where_nothing_waits_for_the_target(world):
    """unreachable_minutes = 0 lets go of what a crash left; what was parked was left on purpose."""
    noise(world, 1)
    park(world)
    assert sync(world, dataclasses.replace(world.agent, unreachable_seconds=0.0))[0].resumed


def test_a_target_that_is_away_is_waited_for_as_long_as_it_may_be_parked(world, monkeypatch):
    noise(world, 1)
    park(world)
    age(world, world.agent.unreachable_seconds + 1)

    def away(*_):
        raise TargetUnavailableError("away", subject="target", next_step="wait")

    with monkeypatch.context() as patch:
        patch.setattr(world.agent.target, "resume", away)
        with pytest.raises(TargetUnavailableError):
            sync(world)
    assert len(world.snapshots()) == 1
    assert sync(world)[0].resumed


def test_another_vms_start_spares_it_as_long_as_it_may_be_parked(world):
    world.site.add_vm("db01", (MIB,))
    noise(world, 1)
    park(world)
    age(world, world.agent.park_seconds - 60)
    sync_vm(world.agent, "db01", requested=None, progress=Quiet())
    assert len(world.snapshots()) == 1
    age(world, 60)
    sync_vm(world.agent, "db01", requested=None, progress=Quiet())
    assert (world.snapshots(), note(world)) == ([], None)
    world.sync()
    world.assert_equal(1)


def test_a_full_sync_that_is_asked_for_begins_anew(world):
    noise(world, 1)
    park(world)
    assert not sync(world, requested=Kind.FULL)[0].resumed
    assert world.snapshots() == []


SIGNALS = {
    "SIGTERM parks": ([signal.SIGTERM], True, True),
    "SIGTERM ends where parking is off": ([signal.SIGTERM], False, False),
    "SIGINT ends": ([signal.SIGINT], True, False),
    "a second SIGTERM ends": ([signal.SIGTERM, signal.SIGTERM], True, False),
    "a second SIGINT ends": ([signal.SIGTERM, signal.SIGINT], True, False),
    "nothing parks what ends": ([signal.SIGINT, signal.SIGTERM], True, False),
}


@pytest.mark.parametrize("what", SIGNALS)
def test_signals_to_a_command(what):
    numbers, allowed, parks = SIGNALS[what]
    first, *later = numbers
    before = signal.getsignal(signal.SIGTERM)
    with interruptible(parks=allowed) as stop:
        with pytest.raises(InterruptedSyncError, match=f"{first.name} ended the command"):
            signal.raise_signal(first)
        for number in later:  # during the clean-up of the first
            signal.raise_signal(number)
        assert stop.parks is parks
        assert stop.cause.endswith("ended the command")
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_clock_of_a_parked_sync_may_have_gone_back(world):
    noise(world, 1)
    park(world)
    age(world, -3600)
    assert note(world).parked > SystemClock().now()
    assert sync(world)[0].resumed

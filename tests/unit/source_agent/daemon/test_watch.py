import math
import threading
from datetime import timedelta

import pytest

from common.errors import AccessDeniedError, SourceUnavailableError, TargetUnavailableError
from common.wire.v1 import replication_pb2 as wire
from source_agent.daemon.events import Inventory, Site, Tags
from source_agent.daemon.watch import InventoryWatch, target_watch
from source_agent.vsphere.memory import MemorySite, MemoryVSphere
from tests.end_to_end.waiting import until
from tests.fakes.clock import ManualClock
from tests.faults.vsphere import FaultyVSphere


class Target:
    """Holds points of VMs, and counts who is asked for."""

    def __init__(self):
        self.points = {}
        self.asked = []
        self.error = None

    def describe(self, replica):
        self.asked.append(replica)
        if self.error:
            raise self.error
        return self.points.get(replica, wire.DescribeReplicaResponse())


class World:
    def __init__(self, tmp_path):
        self.site = MemorySite(tmp_path)
        self.own = self.site.add_vm("agent-vm")
        self.web, self.db = self.site.add_vm("web01"), self.site.add_vm("db01")
        self.vsphere = FaultyVSphere(MemoryVSphere(self.site))
        self.target, self.clock, self.events = Target(), ManualClock(), []
        self.soon = threading.Event()
        self.tags = frozenset()
        self.folder = tmp_path
        self.start()

    def start(self):
        """A new process."""
        self.watch = InventoryWatch(
            self.vsphere,
            self.target,
            self.clock,
            self.events.append,
            own=self.own.moref,
            state_dir=self.folder,
            tags=lambda: self.tags,
            wanted=lambda placements: [one.instance_uuid for one in placements],
            every=lambda: 3600.0,
            soon=self.soon,
        )

    def look(self):
        self.events.clear()
        self.watch.look()
        return self.events


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def described(number, at):
    return wire.DescribeReplicaResponse(newest=wire.Point(number=number, time_seconds=int(at.timestamp())))


def test_points_come_with_their_age(world):
    world.target.points[world.web.instance_uuid] = described(4, world.clock.now() - timedelta(seconds=90))
    site, inventory = world.look()
    assert site == Site("vcenter", None)
    assert {one.name for one in inventory.placements} == {"web01", "db01"}
    (known,) = inventory.known.values()
    assert (known.point, world.clock.monotonic() - known.taken) == (4, 90.0)


def test_a_point_of_the_future_is_one_of_now(world):
    world.target.points[world.web.instance_uuid] = described(4, world.clock.now() + timedelta(days=1))
    (known,) = world.look()[1].known.values()
    assert known.taken == world.clock.monotonic()


def test_each_vm_is_asked_for_once(world):
    world.look()
    world.look()
    assert len(world.target.asked) == 2
    world.site.add_vm("new01")
    world.look()
    assert len(world.target.asked) == 3


def test_a_target_that_is_away_is_asked_again_and_not_for_each_vm(world):
    world.target.error = TargetUnavailableError("away", subject="target", next_step="wait")
    assert isinstance(world.look()[1], Inventory)
    assert len(world.target.asked) == 1
    world.target.error = AccessDeniedError("no", subject="target", next_step="ask")
    world.look()
    assert len(world.target.asked) == 3
    world.target.error = None
    world.look()
    assert len(world.target.asked) == 5


def test_a_vcenter_that_is_away_leaves_everything_as_it_was(world):
    error = SourceUnavailableError("away", subject="vcenter", next_step="wait")
    world.vsphere.fail("placements", lambda: error)
    assert world.look() == [Site("vcenter", error)]


def test_the_thread_looks_at_once_when_it_is_asked_to(world):
    with world.watch.running():
        until("the first look", lambda: len(world.events) == 2)
        world.soon.set()
        until("another look", lambda: len(world.events) == 4)


def test_a_look_that_breaks_does_not_end_the_looking(world):
    world.vsphere.fail("placements", lambda: ZeroDivisionError("oops"))
    with world.watch.running():
        until("the look that broke", lambda: world.vsphere.calls["placements"])
        world.soon.set()
        until("another look", lambda: len(world.events) == 2)


def test_the_target_is_probed_and_again_when_asked_to():
    events, soon = [], threading.Event()
    with target_watch(lambda: None, events.append, soon):
        until("a probe", lambda: events)
        soon.set()
        until("another", lambda: len(events) == 2)
    assert set(events) == {Site("target", None)}


GOLD, SILVER = "Protection:gold", "Protection:silver"


def gold(events):
    (inventory,) = (event for event in events if isinstance(event, Inventory))
    return {one.name for one in inventory.placements if GOLD in one.tags}


def test_vms_come_with_the_tags_that_policies_ask_for(world):
    world.site.tags = {GOLD: {world.web.moref}, SILVER: {world.web.moref}}
    world.tags = frozenset({GOLD})
    events = world.look()
    assert [one.tags for one in events[-1].placements if one.name == "web01"] == [frozenset({GOLD})]
    assert not any(isinstance(event, Tags) for event in events)


def test_a_tag_service_that_fails_leaves_the_last_reading_and_says_so_once(world):
    world.site.tags = {GOLD: {world.web.moref}}
    world.tags = frozenset({GOLD})
    assert gold(world.look()) == {"web01"}
    world.vsphere.fail(
        "tagged", lambda: SourceUnavailableError("no tags", subject="vcenter", next_step="wait"), count=math.inf
    )
    world.site.tags = {}
    events = world.look()
    assert events[0] == Site("vcenter", None)
    assert gold(events) == {"web01"}
    (told,) = (event for event in events if isinstance(event, Tags))
    since = world.clock.now().isoformat(timespec="seconds")
    assert told.troubles == (f"no tags; VMs are selected by the tags as of {since}",)
    assert not any(isinstance(event, Tags) for event in world.look())
    world.vsphere.heal()
    events = world.look()
    assert gold(events) == set()
    assert [event.troubles for event in events if isinstance(event, Tags)] == [
        (f'the vCenter has no tag "{GOLD}" (category:name) that this login may see, so it selects no VM',)
    ]


@pytest.mark.parametrize("before", [frozenset(), frozenset({SILVER})])
def test_tags_that_were_never_read_leave_the_selection_as_it_was(world, before):
    world.tags = before
    world.look()
    world.tags = frozenset({GOLD})
    world.vsphere.fail("tagged", lambda: AccessDeniedError("not for you", subject="vcenter", next_step="ask"))
    events = world.look()
    assert not any(isinstance(event, Inventory) for event in events)
    told = [event.troubles for event in events if isinstance(event, Tags)]
    assert told == [("not for you; until they are read the selection stays as it was",)]


def test_a_new_process_goes_on_from_the_tags_of_the_last_one(world):
    world.site.tags = {GOLD: {world.web.moref}}
    world.tags = frozenset({GOLD})
    world.look()
    world.vsphere.fail("tagged", lambda: AccessDeniedError("no", subject="vcenter", next_step="ask"), count=math.inf)
    world.start()
    assert gold(world.look()) == {"web01"}


@pytest.mark.parametrize("text", ["", "[]", '{"asked": 1}', '{"asked": [], "tagged": [], "when": "now"}'])
def test_kept_tags_that_do_not_read_as_they_should_are_none(world, text):
    (world.folder / "tags.json").write_text(text)
    world.start()
    world.tags = frozenset({GOLD})
    world.vsphere.fail("tagged", lambda: AccessDeniedError("no", subject="vcenter", next_step="ask"))
    assert not any(isinstance(event, Inventory) for event in world.look())


def test_a_folder_that_takes_no_file_stops_no_reading(world):
    world.folder = world.folder / "gone"
    world.start()
    world.site.tags = {GOLD: {world.web.moref}}
    world.tags = frozenset({GOLD})
    assert gold(world.look()) == {"web01"}

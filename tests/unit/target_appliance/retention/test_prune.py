"""What is dropped, what never is, and what the audit log is told of it."""

import itertools
from dataclasses import dataclass, field

import pytest

from common.errors import BusyError, DamagedError, NotFoundError, PreconditionError, StoreError
from target_appliance.audit.event import What
from target_appliance.audit.log import APPLIANCE
from target_appliance.catalog.catalog import Catalog
from target_appliance.recovery import names
from target_appliance.retention import prune
from target_appliance.retention.drop import drop, drop_planned
from target_appliance.retention.keeper import Keeper
from target_appliance.retention.plan import plan
from target_appliance.retention.policy import Policy
from target_appliance.retention.prune import Pruner
from target_appliance.retention.rules import Hold
from target_appliance.store.memory import MemoryStore
from tests.fakes.replica import REPLICA, TENANT, World, grain_bytes, spec

DAY = 86400
YEARS = 10 * 365 * DAY


@dataclass
class Stage:
    """A replica whose points are a day apart, and what the audit log was told."""

    catalog: Catalog
    world: World = field(default_factory=lambda: World(store=MemoryStore()))
    told: list = field(default_factory=list)

    def sync(self, count=1):
        for _ in range(count):
            self.world.clock.advance(DAY)
            self.world.sync({spec(capacity_bytes=1 << 20): {0: grain_bytes(self.world.newest)}})
            record = self.world.vault.point(TENANT, REPLICA, self.world.newest)
            self.catalog.record_point(record, 1)

    @property
    def keeper(self):
        return Keeper(self.world.vault)

    @property
    def pruner(self):
        return Pruner(self.world.vault, self.catalog, self.told.append, APPLIANCE)

    @property
    def left(self):
        found = self.world.vault.point_numbers(TENANT, REPLICA)
        assert found == tuple(row.number for row in self.catalog.points(TENANT, REPLICA))
        return list(found)

    def apply(self):
        return [one.number for one in self.pruner.apply(TENANT, REPLICA)]

    def drop(self, point):
        """As ``points drop`` does."""
        drop(self.world.vault, TENANT, REPLICA, point, "by command")
        self.catalog.follow(self.world.vault, TENANT, REPLICA)


@pytest.fixture
def stage(tmp_path):
    clock = World().clock
    with Catalog.open(f"sqlite:///{tmp_path}/catalog.sqlite", clock) as catalog:
        catalog.add_tenant(TENANT)
        made = Stage(catalog)
        made.sync(5)
        yield made


def test_what_no_rule_keeps_goes_and_each_is_told_with_its_reason(stage):
    assert (stage.apply(), stage.told) == ([], [])
    stage.keeper.set_tenant(TENANT, Policy(last=2), None)

    assert stage.apply() == [1, 2, 3]
    assert stage.left == [4, 5]
    assert [(event.what, event.outcome, event.facts["point"]) for event in stage.told] == [
        (What.POINT_DROPPED, outcome, point) for point in (1, 2, 3) for outcome in ("begun", "ok")
    ]
    assert {event.facts["why"] for event in stage.told} == {"last: 2 are newer"}
    assert {(event.who.role, event.who.tenant, event.object) for event in stage.told} == {
        ("appliance", TENANT, f"replica {REPLICA}")
    }
    assert stage.apply() == []


def test_what_cannot_be_told_is_not_dropped(stage):
    stage.keeper.set_tenant(TENANT, Policy(last=2), None)

    def full(_event):
        raise StoreError("the audit log cannot be written", subject="audit log", next_step="free space")

    pruner = Pruner(stage.world.vault, stage.catalog, full, APPLIANCE)
    with pytest.raises(StoreError):
        pruner.apply(TENANT, REPLICA)
    assert stage.left == [1, 2, 3, 4, 5]


def test_a_drop_that_fails_is_told(stage, monkeypatch):
    def busy(*_words):
        raise BusyError("a point is being made", subject="points", next_step="try again")

    monkeypatch.setattr(stage.world.vault, "drop", busy)
    stage.keeper.set_tenant(TENANT, Policy(last=4), None)
    with pytest.raises(BusyError):
        stage.apply()
    assert [event.outcome for event in stage.told] == ["begun", BusyError.reason]
    assert stage.left == [1, 2, 3, 4, 5]


def test_a_hold_that_is_placed_before_is_seen(stage):
    stage.keeper.set_tenant(TENANT, Policy(last=1), None)
    stage.keeper.hold(TENANT, REPLICA, 2, Hold("case-17", "court order"))

    assert stage.apply() == [1, 3, 4]
    with pytest.raises(PreconditionError, match="is not dropped: held: case-17, court order"):
        stage.drop(2)
    stage.keeper.release(TENANT, REPLICA, 2, "case-17")
    stage.drop(2)
    assert stage.left == [5]


def test_what_a_sync_under_way_may_stand_on_is_not_dropped_by_name(stage):
    disks = {spec(capacity_bytes=1 << 20): {}, spec(2001, 1 << 20): {3: grain_bytes(9)}}
    stage.world.sync(disks)
    stage.world.sync({spec(capacity_bytes=1 << 20): {0: grain_bytes(7)}})
    stage.world.begin([spec(capacity_bytes=1 << 20), spec(2001, 1 << 20)])
    with pytest.raises(PreconditionError, match="a sync under way may stand on it"):
        drop(stage.world.vault, TENANT, REPLICA, 6, "by command")  # the newest with disk 2001
    drop(stage.world.vault, TENANT, REPLICA, 5, "by command")
    stage.world.vault.syncs.sweep(TENANT, REPLICA)
    drop(stage.world.vault, TENANT, REPLICA, 6, "by command")


@pytest.mark.parametrize("how", ["held", "locked"])
def test_whoever_comes_with_a_plan_is_refused_as_well(stage, how):
    stage.keeper.set_tenant(TENANT, Policy(last=1), 30)
    stage.sync(2)
    number = 2 if how == "held" else 6
    stage.keeper.hold(TENANT, REPLICA, 2, Hold("case-17", "court order"))
    planned = plan(stage.world.vault, TENANT, REPLICA)
    with pytest.raises(PreconditionError, match=how):
        drop_planned(stage.world.vault, planned, planned.verdicts[number - 1], "because")
    assert number in stage.left


def test_many_are_dropped_in_turns_between_which_others_have_the_lock(stage, monkeypatch):
    monkeypatch.setattr(prune, "MOST_AT_ONCE", 2)
    stage.sync(2)
    stage.keeper.set_tenant(TENANT, Policy(last=1), None)
    left = []

    def rest(seconds):
        if seconds:
            left.append(stage.world.vault.point_numbers(TENANT, REPLICA))
        if seconds and len(left) == 1:
            stage.keeper.hold(TENANT, REPLICA, 4, Hold("case-17", "court order"))
        return False

    pruner = Pruner(stage.world.vault, stage.catalog, stage.told.append, APPLIANCE, rest)
    assert [one.number for one in pruner.apply(TENANT, REPLICA)] == [1, 2, 3, 5, 6]
    assert left == [(3, 4, 5, 6, 7), (4, 6, 7)]
    assert stage.left == [4, 7]


@pytest.mark.parametrize(
    ("ends", "gone"), [(lambda _seconds: True, []), (lambda seconds: seconds > 0, [1, 2])], ids=["at once", "at a rest"]
)
def test_when_the_process_ends_no_other_point_is_dropped(stage, monkeypatch, ends, gone):
    monkeypatch.setattr(prune, "MOST_AT_ONCE", 2)
    stage.keeper.set_tenant(TENANT, Policy(last=1), None)
    pruner = Pruner(stage.world.vault, stage.catalog, stage.told.append, APPLIANCE, ends)
    assert [one.number for one in pruner.apply(TENANT, REPLICA)] == gone
    assert stage.left == [number for number in range(1, 6) if number not in gone]


def test_the_newest_and_absent_ones_are_not_dropped(stage):
    with pytest.raises(PreconditionError, match="newest"):
        stage.drop(5)
    with pytest.raises(NotFoundError):
        stage.drop(77)
    assert (stage.left, stage.told) == ([1, 2, 3, 4, 5], [])


def test_a_point_whose_record_is_damaged_is_not_dropped_by_anybody(stage):
    folder = names.point_folder(TENANT, REPLICA, 2)
    stage.world.store._files[tuple(f"{folder}/point.json".split("/"))][40] ^= 1
    stage.keeper.set_tenant(TENANT, Policy(last=1), None)

    with pytest.raises(DamagedError):
        stage.drop(2)
    assert stage.apply() == [1, 3, 4]


def test_nobody_drops_a_locked_point_before_its_time(stage):
    stage.keeper.set_tenant(TENANT, Policy(last=1), 30)
    stage.sync(2)
    stage.keeper.set_tenant(TENANT, Policy(last=1), 0)
    stage.sync()
    assert stage.apply() == [1, 2, 3, 4, 5]
    for _ in range(100):
        for point in (6, 7):
            with pytest.raises(PreconditionError, match="locked until"):
                stage.drop(point)
    assert stage.apply() == []
    assert stage.left == [6, 7, 8]

    stage.world.clock.advance(28 * DAY)
    assert stage.apply() == [6]
    stage.world.clock.advance(DAY)
    assert stage.apply() == [7]


@pytest.mark.parametrize("years", [YEARS, -YEARS])
@pytest.mark.parametrize("when", ["before the points", "among the points", "after the points"])
def test_a_clock_that_is_moved_by_ten_years_brings_no_expiry_forward(tmp_path, years, when):
    """The same life with and without the move: the same points are dropped on the same days."""

    def live(move):
        clock = World().clock
        with Catalog.open(f"sqlite:///{tmp_path}/{move}.sqlite", clock) as catalog:
            catalog.add_tenant(TENANT)
            made = Stage(catalog)
            made.sync()
            made.keeper.set_tenant(TENANT, Policy(last=2, daily=5, weekly=2, within=3 * DAY), 4)
            made.world.vault.time.now()  # as the serving process asks when it starts
            gone = {}
            for day in range(30):
                if move and day == {"before the points": 0, "among the points": 12, "after the points": 27}[when]:
                    made.world.clock.jump(move)
                if move and day == 28:
                    made.world.clock.jump(-move)  # somebody notices
                made.sync()
                gone.update(dict.fromkeys(made.apply(), day))
            return gone

    as_it_was = live(0)
    assert len(as_it_was) > 10
    assert live(years) == as_it_was


def test_it_is_quick_to_ask_for_a_year_of_points(stage):
    """A plan reads each record once, and no point's data."""
    stage.sync(20)
    opened = []
    store = stage.world.store
    real = store.open
    store.open = lambda path: opened.append(path) or real(path)
    stage.keeper.set_tenant(TENANT, Policy(last=25), None)
    opened.clear()
    stage.apply()
    per_point = [
        sum(1 for _ in group) for _, group in itertools.groupby(sorted(p for p in opened if "point.json" in p))
    ]
    assert per_point == [1] * 25
    assert not any(".vmdk" in path for path in opened)

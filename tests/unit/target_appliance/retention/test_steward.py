"""What the serving process does of itself."""

import threading

import pytest
import structlog

from target_appliance.audit.log import APPLIANCE
from target_appliance.catalog.catalog import Catalog
from target_appliance.recovery import names, small_file
from target_appliance.recovery.types import SyncKind
from target_appliance.retention import settings, steward
from target_appliance.retention.clock import FILE, FOLDER
from target_appliance.retention.keeper import Keeper
from target_appliance.retention.policy import Policy
from target_appliance.retention.prune import Pruner
from target_appliance.retention.steward import Seen, Steward, retaining
from target_appliance.store.memory import MemoryStore
from tests.fakes.replica import REPLICA, TENANT, World, grain_bytes, spec
from tests.faults.store import FaultStore, Trap


@pytest.fixture
def world():
    world = World(store=MemoryStore())
    for number in range(3):
        world.sync({spec(capacity_bytes=1 << 20): {0: grain_bytes(number)}})
    return world


@pytest.fixture
def catalog(world, tmp_path):
    with Catalog.open(f"sqlite:///{tmp_path}/catalog.sqlite", world.clock) as opened:
        opened.rebuild(world.vault)
        yield opened


@pytest.fixture
def one(world, catalog):
    return made(world, catalog)


def made(world, catalog, told=None):
    tell = [].append if told is None else told.append
    return Steward(world.vault, Pruner(world.vault, catalog, tell, APPLIANCE), world.clock)


def ticked(one):
    with structlog.testing.capture_logs() as told:
        one.tick()
    return [line["event"] for line in told if line["log_level"] == "warning"]


def test_once_an_hour_it_drops_what_no_rule_keeps(world, catalog):
    told = []
    one = made(world, catalog, told)
    assert ticked(one) == []
    assert one.seen == {(TENANT, REPLICA): Seen(3, 0, 0)}
    Keeper(world.vault).set_tenant(TENANT, Policy(last=1), None)
    world.clock.advance(3599)
    one.tick()
    assert world.vault.point_numbers(TENANT, REPLICA) == (1, 2, 3)
    world.clock.advance(1)
    one.tick()
    assert one.seen[TENANT, REPLICA].droppable == 2
    assert world.vault.point_numbers(TENANT, REPLICA) == (3,)
    assert [event.facts["point"] for event in told if event.outcome == "ok"] == [1, 2]
    world.clock.advance(3600)
    one.tick()
    assert one.seen[TENANT, REPLICA].droppable == 0


def test_it_keeps_trusted_time_and_tells_once_that_the_clock_was_set(world, one):
    one.tick()
    before = small_file.read(world.store, f"{FOLDER}/{FILE}")["time"]
    world.clock.jump(10 * 365 * 86400)
    world.clock.advance(60)
    assert len(ticked(one)) == 1
    world.clock.advance(60)
    assert ticked(one) == []
    assert small_file.read(world.store, f"{FOLDER}/{FILE}")["time"] == before + 120


def test_a_replica_that_is_gone_is_forgotten(world, one):
    one.tick()
    world.store.remove_tree(names.replica_folder(TENANT, REPLICA))
    world.clock.advance(3600)
    one.tick()
    assert one.seen == {}


def test_damaged_settings_are_told_once_and_drop_nothing(world, one):
    Keeper(world.vault).set_tenant(TENANT, Policy(last=1), None)
    small_file.replace(world.store, names.replica_folder(TENANT, REPLICA), settings.FILE, {"holds": 1})
    assert ticked(one) == ["points of a replica are not dropped"]
    world.clock.advance(3600)
    assert ticked(one) == []
    assert world.vault.point_numbers(TENANT, REPLICA) == (1, 2, 3)


def test_a_flood_is_told(world, one, monkeypatch):
    monkeypatch.setattr(steward, "MANY_EMPTY", 5)
    for _ in range(5):
        world.sync({spec(capacity_bytes=1 << 20, kind=SyncKind.DELTA): {}}, SyncKind.DELTA)

    assert ticked(one) == ["a replica gets points as if somebody flooded it"]


def test_a_store_that_fails_ends_nothing(world, catalog):
    trap = Trap(at=1, for_good=True)
    one = made(World(FaultStore(world.store, trap), world.kms, world.clock), catalog)
    assert ticked(one) == ["retention cannot go on"]
    assert one.seen == {}
    trap.at = 0
    one.tick()
    assert one.seen


def test_at_the_end_of_the_process_no_other_replica_is_begun(world, catalog):
    pruner = Pruner(world.vault, catalog, [].append, APPLIANCE, lambda _seconds: True)
    one = Steward(world.vault, pruner, world.clock)
    one.tick()
    assert one.seen == {}


def test_it_works_in_a_thread_of_its_own_until_the_block_ends(world, catalog, monkeypatch):
    monkeypatch.setattr(steward, "_TICK_SECONDS", 0.01)
    Keeper(world.vault).set_tenant(TENANT, Policy(last=1), None)
    dropping, go_on, dropped, stopping = (threading.Event() for _ in range(4))

    def tell(event):
        dropping.set()
        assert go_on.wait(60)
        if (event.outcome, event.facts["point"]) == ("ok", 2):
            dropped.set()

    pruner = Pruner(world.vault, catalog, tell, APPLIANCE, stopping.wait)
    with retaining(world.vault, pruner, world.clock, stopping) as one:
        assert dropping.wait(60)
        assert one.seen[TENANT, REPLICA].droppable == 2
        go_on.set()
        assert dropped.wait(60)
    assert stopping.is_set()
    assert world.vault.point_numbers(TENANT, REPLICA) == (3,)


def test_a_fault_of_ours_is_told_and_does_not_end_it(world, catalog, monkeypatch):
    monkeypatch.setattr(steward, "_TICK_SECONDS", 0.01)
    again, ticks = threading.Event(), []

    def tick(_one):
        ticks.append(1)
        if len(ticks) > 1:
            again.set()
        raise RuntimeError("a fault")

    monkeypatch.setattr(Steward, "tick", tick)
    pruner = Pruner(world.vault, catalog, [].append, APPLIANCE)
    with (
        structlog.testing.capture_logs() as told,
        retaining(world.vault, pruner, world.clock, threading.Event()),
    ):
        assert again.wait(60)
    assert {line["event"] for line in told} == {"retention failed"}

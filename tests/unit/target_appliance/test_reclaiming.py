from target_appliance.catalog.catalog import Catalog
from target_appliance.reclaiming import Reclaiming, settle_all
from target_appliance.recovery.types import SyncKind
from tests.fakes.replica import REPLICA, TENANT, World, grain_bytes, spec
from tests.faults.merge_world import FOLDER, check_kept

HOUR = 3600.0


def dropped_chain():
    world = World()
    world.sync({spec(): {grain: grain_bytes(grain) for grain in range(20)}})
    for number in range(2, 4):
        world.sync({spec(kind=SyncKind.DELTA): {grain: grain_bytes(number) for grain in range(20)}}, SyncKind.DELTA)
    return world


def test_a_round_gives_space_back_and_the_catalog_follows(tmp_path):
    world = dropped_chain()
    with Catalog.open(f"sqlite:///{tmp_path}/catalog.db", world.clock) as catalog:
        catalog.rebuild(world.vault)
        before = catalog.usage(TENANT).stored_bytes
        world.drop(1)
        world.drop(2)
        with Reclaiming(world.vault, catalog, HOUR) as reclaiming:
            reclaiming.round()
            assert [row.number for row in catalog.points(TENANT, REPLICA)] == [3]
            assert catalog.usage(TENANT).stored_bytes < before / 2
            reclaiming.round()
    check_kept(world)


def test_a_round_runs_by_itself_and_ends_when_told(tmp_path):
    world = dropped_chain()
    world.drop(1)
    world.drop(2)
    gone = []
    with Catalog.open(f"sqlite:///{tmp_path}/catalog.db", world.clock) as catalog:
        catalog.rebuild(world.vault)
        follow = catalog.follow
        catalog.follow = lambda *about: (follow(*about), gone.append(about))
        with Reclaiming(world.vault, catalog, 0.01) as reclaiming:
            while not gone:
                reclaiming._thread.join(0.01)
    assert not reclaiming._thread.is_alive()
    check_kept(world)


def test_a_merge_that_cannot_be_finished_keeps_nobody_from_serving():
    world = dropped_chain()
    world.store.make_folder(f"{FOLDER}/merging")

    settle_all(world.vault)

    assert "merging" in world.store.names(FOLDER)

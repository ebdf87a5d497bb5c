from dataclasses import dataclass, field

import pytest

from common.ids import PointNumber
from target_appliance.catalog.catalog import Catalog
from target_appliance.recovery.types import SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.scrub.choice import Due
from target_appliance.scrub.scrubber import Scrubber
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT, World, grain_bytes, spec, vm_configuration

ALL = Due(0, 0, 0, 0)


@dataclass
class Scrubbed:
    """A replica of four points whose second disk begins a chain anew at the third, a catalog, and a scrub."""

    world: World
    catalog: Catalog
    told: list = field(default_factory=list)
    read: int = 0

    def scrubber(self, pace=None, *, with_key=False, store=None):
        def count(size):
            self.read += size
            if pace is not None:
                pace(size)

        vault = self.world.vault if store is None else Vault(store, self.world.kms, self.world.clock)
        clock = self.world.clock
        return Scrubber(vault, self.catalog, clock, pace=count, with_key=with_key, told=self.told.append)

    def round(self, *, with_key=False, store=None):
        """Look at every point once; the states by point."""
        scrubber = self.scrubber(with_key=with_key, store=store)
        rows = [scrubber.look(key) for key in scrubber.due(ALL)]
        return {row.number: row.state for row in rows if row is not None}

    def key(self, number):
        return (TENANT, REPLICA, PointNumber(number))


@pytest.fixture
def scrubbed(tmp_path):
    world = World()
    world.configuration = vm_configuration()
    grains = {number: grain_bytes(number, random_bytes=True) for number in range(64)}
    world.sync({spec(): grains, spec(OTHER_DISK): {1: grain_bytes(1)}})
    for number in (2, 3, 4):
        kind = SyncKind.FULL if number == 3 else SyncKind.DELTA
        changed = {number: grain_bytes(number + 50)}
        world.sync(
            {spec(DISK, kind=SyncKind.DELTA): changed, spec(OTHER_DISK, kind=kind): {2: grain_bytes(number)}},
            SyncKind.DELTA,
        )
    with Catalog.open(f"sqlite:///{tmp_path}/catalog.sqlite", world.clock) as catalog:
        catalog.add_tenant(TENANT)
        catalog.reconcile(world.vault)
        yield Scrubbed(world, catalog)

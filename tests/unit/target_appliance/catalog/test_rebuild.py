from dataclasses import dataclass, field

import pytest

from common.errors import DamagedError, PreconditionError
from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.model import AgentRow
from target_appliance.recovery.types import PointRecord
from tests.fakes.clock import ManualClock
from tests.unit.target_appliance.catalog.rows import ACME, AGENT1, GLOBEX, VM1, VM2, point, record, sync


@dataclass
class ListedVault:
    """A store's content as plain data."""

    held: list[PointRecord] = field(default_factory=list)
    bare_tenants: tuple[TenantId, ...] = ()
    broken: set[PointNumber] = field(default_factory=set)
    sizes: dict[tuple[TenantId, ReplicaId, PointNumber], int] = field(default_factory=dict)
    dropped: tuple[PointNumber, ...] = ()

    def tenants(self) -> list[TenantId]:
        return sorted({record.tenant for record in self.held} | set(self.bare_tenants))

    def replicas(self, tenant: TenantId) -> list[ReplicaId]:
        return sorted({record.replica for record in self.held if record.tenant == tenant})

    def point(self, tenant: TenantId, replica: ReplicaId, number: PointNumber) -> PointRecord:
        if number in self.broken:
            raise DamagedError(f"point {number} is damaged", subject=f"point {number}", next_step="restore it")
        return next(
            record
            for record in self.held
            if (record.tenant, record.replica, record.number) == (tenant, replica, number)
        )

    def dropped_numbers(self, tenant: TenantId, replica: ReplicaId) -> tuple[PointNumber, ...]:
        return self.dropped

    def every_stored_bytes(self, tenant: TenantId, replica: ReplicaId) -> dict[PointNumber, int]:
        numbers = sorted(record.number for record in self.held if (record.tenant, record.replica) == (tenant, replica))
        return {number: self.sizes.get((tenant, replica, number), 1000) for number in numbers}


VAULT = ListedVault([record(1), record(2), record(1, "db", replica=VM2)], bare_tenants=(GLOBEX,))


def test_a_lost_catalog_comes_back_from_the_store(catalog: Catalog) -> None:
    held = catalog.rebuild(VAULT)
    assert len(held.points) == 3
    assert catalog.tenants() == (ACME, GLOBEX)
    assert catalog.points(ACME, VM1) == (point(1), point(2))
    assert [row.vm_name for row in catalog.replicas()] == ["db", "web"]


def test_rebuilding_forgets_what_the_store_lacks_but_no_tenant_agent_or_lease(
    catalog: Catalog, clock: ManualClock
) -> None:
    catalog.add_tenant(GLOBEX)
    agent = AgentRow(AGENT1, GLOBEX, "ab", "cd" * 32, 1_800_000_000)
    catalog.put_agent(agent)
    catalog.record_point(record(7, "gone", tenant=GLOBEX), 1000)
    lease = catalog.take_lease(GLOBEX, VM1, AGENT1, sync(1), 60)
    catalog.rebuild(VAULT)
    catalog.rebuild(VAULT)
    assert catalog.points(GLOBEX, VM1) == ()
    assert catalog.agents(GLOBEX) == (agent,)
    catalog.check(lease)


def test_reconciling_adds_and_removes_the_difference_once(catalog: Catalog) -> None:
    catalog.add_tenant(ACME)
    catalog.record_point(record(1, "old name"), 1000)
    catalog.record_point(record(3, "old name"), 1000)
    changes = catalog.reconcile(VAULT)
    assert changes.added == (point(2), point(1, replica=VM2))
    assert changes.removed == (point(3),)
    assert catalog.points(ACME, VM1) == (point(1), point(2))
    assert catalog.find_replica("web").replica == VM1
    again = catalog.reconcile(VAULT)
    assert (again.added, again.removed) == ((), ())


def test_a_row_that_differs_is_corrected(catalog: Catalog) -> None:
    catalog.add_tenant(ACME)
    catalog.record_point(record(1, "web"), 5)
    changes = catalog.reconcile(VAULT)
    assert changes.removed == (point(1, stored=5),)
    assert point(1) in changes.added
    assert catalog.points(ACME, VM1)[0] == point(1)


def test_an_empty_store_under_a_catalog_with_points_is_refused(catalog: Catalog) -> None:
    catalog.rebuild(VAULT)
    with pytest.raises(PreconditionError, match="knows 3 points"):
        catalog.reconcile(ListedVault())
    assert len(catalog.points(ACME, VM1)) == 2
    catalog.rebuild(ListedVault())
    assert catalog.points(ACME, VM1) == ()


def test_a_damaged_record_hides_no_other_point_and_is_not_forgotten(catalog: Catalog) -> None:
    catalog.rebuild(VAULT)
    hurt = ListedVault(VAULT.held, broken={PointNumber(2)})
    changes = catalog.reconcile(hurt)
    assert (changes.added, changes.removed) == ((), ())
    assert changes.damaged == {(ACME, VM1, PointNumber(2)): "point 2 is damaged"}
    assert catalog.points(ACME, VM1) == (point(1), point(2))
    assert catalog.rebuild(hurt).damaged == changes.damaged
    assert catalog.points(ACME, VM1) == (point(1),)


def test_a_store_with_nothing_but_damage_is_not_taken_for_empty(catalog: Catalog) -> None:
    catalog.rebuild(VAULT)
    changes = catalog.reconcile(ListedVault([record(1)], broken={PointNumber(1)}))
    assert changes.removed == (point(2), point(1, replica=VM2))


def test_dropped_and_merged_points_are_neither_lost_nor_found(catalog: Catalog) -> None:
    vault = ListedVault([record(1), record(2), record(3)])
    catalog.rebuild(vault)
    now = ListedVault([record(3)], sizes={(ACME, VM1, PointNumber(3)): 5}, dropped=(PointNumber(1),))

    changes = catalog.reconcile(now)

    assert (changes.found, changes.gone) == ((), (point(2),))
    assert catalog.points(ACME, VM1) == (point(3, stored=5),)


def test_one_replica_is_followed_and_no_other(catalog: Catalog) -> None:
    catalog.rebuild(VAULT)
    now = ListedVault([record(2)], sizes={(ACME, VM1, PointNumber(2)): 5}, dropped=(PointNumber(1),))

    catalog.follow(now, ACME, VM1)

    assert catalog.points(ACME, VM1) == (point(2, stored=5),)
    assert len(catalog.points(ACME, VM2)) == 1

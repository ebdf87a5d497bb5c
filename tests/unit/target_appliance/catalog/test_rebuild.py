from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest

from common.errors import PreconditionError
from common.ids import ReplicaId, TenantId
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.model import AgentRow, PointRow
from tests.fakes.clock import ManualClock
from tests.unit.target_appliance.catalog.rows import ACME, AGENT1, GLOBEX, VM1, VM2, point, sync


@dataclass
class ListedVault:
    """A store's content as plain data."""

    names: dict[tuple[TenantId, ReplicaId], str] = field(default_factory=dict)
    held: list[PointRow] = field(default_factory=list)
    bare_tenants: tuple[TenantId, ...] = ()

    def tenants(self) -> Iterable[TenantId]:
        return sorted({tenant for tenant, _ in self.names} | set(self.bare_tenants))

    def replicas(self, tenant: TenantId) -> Iterable[ReplicaId]:
        return [replica for owner, replica in self.names if owner == tenant]

    def vm_name(self, tenant: TenantId, replica: ReplicaId) -> str:
        return self.names[tenant, replica]

    def point_rows(self, tenant: TenantId, replica: ReplicaId) -> Iterable[PointRow]:
        return [row for row in self.held if (row.tenant, row.replica) == (tenant, replica)]


VAULT = ListedVault(
    {(ACME, VM1): "web", (ACME, VM2): "db"},
    [point(1), point(2), point(1, replica=VM2)],
    bare_tenants=(GLOBEX,),
)


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
    catalog.record_point(point(7, tenant=GLOBEX), "gone")
    lease = catalog.take_lease(GLOBEX, VM1, AGENT1, sync(1), 60)
    catalog.rebuild(VAULT)
    catalog.rebuild(VAULT)
    assert catalog.points(GLOBEX, VM1) == ()
    assert catalog.agents(GLOBEX) == (agent,)
    catalog.check(lease)


def test_reconciling_adds_and_removes_the_difference_once(catalog: Catalog) -> None:
    catalog.add_tenant(ACME)
    catalog.record_point(point(1), "old name")
    catalog.record_point(point(3), "old name")
    changes = catalog.reconcile(VAULT)
    assert changes.added == (point(2), point(1, replica=VM2))
    assert changes.removed == (point(3),)
    assert catalog.points(ACME, VM1) == (point(1), point(2))
    assert catalog.find_replica("web").replica == VM1
    again = catalog.reconcile(VAULT)
    assert (again.added, again.removed) == ((), ())


def test_a_row_that_differs_is_corrected(catalog: Catalog) -> None:
    catalog.add_tenant(ACME)
    catalog.record_point(point(1, stored=5), "web")
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

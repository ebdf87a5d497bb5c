import pytest

from common.errors import CertificateError, NotFoundError, PreconditionError, StoreError
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.model import AgentRow
from target_appliance.identity.authn import Identity
from tests.fakes.clock import START
from tests.unit.target_appliance.catalog.rows import ACME, AGENT1, AGENT2, GLOBEX, VM1, VM2, point, record


def test_tenants_are_added_once(catalog: Catalog) -> None:
    assert catalog.add_tenant(GLOBEX)
    assert catalog.add_tenant(ACME)
    assert not catalog.add_tenant(ACME)
    assert catalog.tenants() == (ACME, GLOBEX)


def test_an_agent_is_admitted_for_its_own_tenant_only(catalog: Catalog) -> None:
    for tenant in (ACME, GLOBEX):
        catalog.add_tenant(tenant)
    row = AgentRow(AGENT1, ACME, "ab", "cd" * 32, 1_800_000_000)
    catalog.put_agent(row)
    catalog.admit(Identity(ACME, AGENT1, 1, START))
    for tenant, agent in ((GLOBEX, AGENT1), (ACME, AGENT2), ("initech", AGENT1)):
        with pytest.raises(CertificateError, match="not registered"):
            catalog.admit(Identity(tenant, agent, 1, START))
    renewed = AgentRow(AGENT1, ACME, "ff", "ee" * 32, 1_900_000_000)
    catalog.put_agent(renewed)
    assert catalog.agents(ACME) == (renewed,)
    assert catalog.agents(GLOBEX) == ()


def test_an_agent_needs_a_tenant(catalog: Catalog) -> None:
    with pytest.raises(StoreError, match="FOREIGN KEY"):
        catalog.put_agent(AgentRow(AGENT1, ACME, "ab", "cd" * 32, 1_800_000_000))


def test_a_row_shows_the_record_in_short() -> None:
    row = point(2, stored=77)
    assert (row.kind, row.capacity_bytes, row.stored_bytes, row.time) == ("delta", 1 << 30, 77, 1_700_000_002)


def test_points_are_listed_rising_and_noted_once(catalog: Catalog) -> None:
    catalog.add_tenant(ACME)
    for number in (2, 10, 1, 10):
        catalog.record_point(record(number, "web01"), 1000)
    assert catalog.points(ACME, VM1) == (point(1), point(2), point(10))
    assert catalog.points(ACME, VM2) == ()


def test_replicas_sum_up_their_points_and_follow_the_vms_name(catalog: Catalog) -> None:
    for tenant in (ACME, GLOBEX):
        catalog.add_tenant(tenant)
    for number in (1, 2, 3):
        catalog.record_point(record(number, f"web-{number}"), number * 100)
    catalog.record_point(record(1, "db", tenant=GLOBEX, replica=VM2), 1000)
    web, db = catalog.replicas()
    assert (web.replica, web.vm_name, web.points, web.newest, web.stored_bytes) == (VM1, "web-3", 3, 3, 600)
    assert web.newest_time == point(3).time
    assert (db.tenant, db.points) == (GLOBEX, 1)
    assert catalog.replicas(ACME) == (web,)


def test_a_replica_is_found_by_id_or_by_a_name_that_only_one_bears(catalog: Catalog) -> None:
    for tenant in (ACME, GLOBEX):
        catalog.add_tenant(tenant)
    catalog.record_point(record(1, "web"), 1000)
    catalog.record_point(record(1, "web", tenant=GLOBEX, replica=VM2), 1000)
    catalog.record_point(record(1, "db", replica=VM2), 1000)
    assert catalog.find_replica("db").replica == VM2
    assert catalog.find_replica(VM1).vm_name == "web"
    assert catalog.find_replica("web", ACME).replica == VM1
    with pytest.raises(PreconditionError, match="2 replicas are called 'web'"):
        catalog.find_replica("web")
    with pytest.raises(PreconditionError, match="tenant globex"):
        catalog.find_replica(VM2)
    with pytest.raises(NotFoundError, match=r"'\\x1b\[31mno'"):
        catalog.find_replica("\x1b[31mno")

"""Tenants and agents: limits, suspension, revocation."""

from dataclasses import replace

import pytest
import sqlalchemy
from alembic import command
from alembic.config import Config

from common.errors import AccessDeniedError, FencedError, NotFoundError
from target_appliance.catalog import schema
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.database import Database
from target_appliance.catalog.model import AgentRow, TenantLimits, TenantRow, agents, tenants
from tests.fakes.clock import ManualClock
from tests.unit.target_appliance.catalog.rows import ACME, AGENT1, AGENT2, GLOBEX, VM1, VM2, sync

ROW = AgentRow(AGENT1, ACME, "1f", "ab" * 32, 2_000_000_000)


@pytest.fixture(autouse=True)
def _tenants(catalog: Catalog) -> None:
    catalog.add_tenant(ACME)
    catalog.add_tenant(GLOBEX)


def test_a_tenant_begins_without_limits_and_keeps_what_it_is_given(catalog: Catalog) -> None:
    assert catalog.tenant(ACME) == TenantRow(ACME)
    row = TenantRow(ACME, TenantLimits(1, 2, 3, 4), suspended=5)
    catalog.put_tenant(row)
    assert not catalog.add_tenant(ACME)
    assert (catalog.tenant(ACME), catalog.tenant(GLOBEX)) == (row, TenantRow(GLOBEX))


def test_nobody_has_no_limits(catalog: Catalog) -> None:
    nobody = replace(TenantRow(ACME), tenant="nobody")
    for ask in (lambda: catalog.tenant(nobody.tenant), lambda: catalog.put_tenant(nobody)):
        with pytest.raises(NotFoundError, match="nobody"):
            ask()


def test_a_revoked_agent_holds_no_lease_and_gets_no_new_certificate(catalog: Catalog, clock: ManualClock) -> None:
    catalog.put_agent(ROW)
    catalog.put_agent(replace(ROW, agent=AGENT2))
    mine = catalog.take_lease(ACME, VM1, AGENT1, sync(1), 60)
    other = catalog.take_lease(ACME, VM2, AGENT2, sync(2), 60)
    row = catalog.revoke_agent(AGENT1)
    assert row == replace(ROW, revoked=int(clock.now().timestamp()))
    clock.advance(100)
    assert catalog.revoke_agent(AGENT1) == row
    with pytest.raises(FencedError):
        catalog.renew(mine, 60)
    catalog.renew(other, 60)
    catalog.require_free(ACME, VM1, AGENT2)
    with pytest.raises(AccessDeniedError, match="revoked"):
        catalog.put_agent(replace(ROW, serial="2a"))
    assert row in catalog.agents(ACME)


def test_a_catalog_of_the_first_schema_keeps_its_rows(tmp_path) -> None:
    url = f"sqlite:///{tmp_path / 'old.sqlite'}"
    database = Database(url)
    config = Config()
    config.set_main_option("script_location", str(schema.__file__).replace("schema.py", "migrations"))
    with database.writing() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.execute(sqlalchemy.text("insert into tenants values ('acme')"))
        row = {"agent": AGENT1}
        connection.execute(sqlalchemy.text("insert into agents values (:agent, 'acme', '1f', 'ab', 7)"), row)
    database.close()
    with Catalog.open(url, ManualClock()) as catalog:
        assert catalog.tenant(ACME) == TenantRow(ACME)
        assert catalog.agents(ACME) == (AgentRow(AGENT1, ACME, "1f", "ab", 7),)
        columns = sqlalchemy.inspect(catalog._database._engine)
        for table in (tenants, agents):
            assert {column["name"] for column in columns.get_columns(table.name)} == set(table.c.keys())

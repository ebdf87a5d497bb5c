"""Tenants and agents in the catalog. Each function runs inside the caller's transaction."""

import dataclasses

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from sqlalchemy import Connection, delete, insert, select

from common.errors import CertificateError
from common.ids import AgentId, TenantId
from target_appliance.catalog.model import AgentRow, agents, tenants
from target_appliance.identity.authn import Identity


def agent_row(identity: Identity, certificate_pem: bytes) -> AgentRow:
    """The row of a certificate that was issued to ``identity``."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return AgentRow(
        identity.agent,
        identity.tenant,
        f"{certificate.serial_number:x}",
        certificate.fingerprint(hashes.SHA256()).hex(),
        int(certificate.not_valid_after_utc.timestamp()),
    )


def add_tenant(connection: Connection, tenant: TenantId) -> bool:
    """Insert ``tenant``; False when it was there."""
    if connection.execute(select(tenants).where(tenants.c.tenant == tenant)).one_or_none() is not None:
        return False
    connection.execute(insert(tenants).values(tenant=tenant))
    return True


def list_tenants(connection: Connection) -> tuple[TenantId, ...]:
    """All tenants, by name."""
    rows = connection.execute(select(tenants.c.tenant).order_by(tenants.c.tenant))
    return tuple(TenantId(row.tenant) for row in rows)


def put_agent(connection: Connection, row: AgentRow) -> None:
    """Insert or replace one agent; its tenant must be there."""
    connection.execute(delete(agents).where(agents.c.agent == row.agent))
    connection.execute(insert(agents).values(**dataclasses.asdict(row)))


def list_agents(connection: Connection, tenant: TenantId) -> tuple[AgentRow, ...]:
    """The tenant's agents, by id."""
    rows = connection.execute(select(agents).where(agents.c.tenant == tenant).order_by(agents.c.agent))
    return tuple(
        AgentRow(AgentId(row.agent), TenantId(row.tenant), row.serial, row.fingerprint, row.not_after) for row in rows
    )


def admit(connection: Connection, identity: Identity) -> None:
    """Return if the agent was registered here for its tenant.

    Raises:
        CertificateError: it was not (or is no longer); an unknown tenant and an unknown agent look the same.
    """
    found = connection.execute(
        select(agents.c.agent).where(agents.c.agent == identity.agent, agents.c.tenant == identity.tenant)
    ).one_or_none()
    if found is None:
        raise CertificateError(
            f"agent {identity.agent} of tenant {identity.tenant} is not registered at this appliance",
            subject=f"agent {identity.agent}",
            next_step="issue it a certificate with target-appliance tenants add",
        )

"""Tenants and agents in the catalog. Each function runs inside the caller's transaction."""

import dataclasses
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from sqlalchemy import Connection, Row, delete, insert, select, update

from common.errors import AccessDeniedError, CertificateError, LimitExceededError, NotFoundError
from common.ids import AgentId, TenantId
from target_appliance.catalog.model import (
    AgentRow,
    TenantLimits,
    TenantRow,
    agents,
    metadata,
    tenants,
)
from target_appliance.identity.authn import Identity
from target_appliance.identity.names import Role

MOST_AGENTS: Final = 1000
"""Of one tenant, where its own authority vouches for them: it could name any number."""


def agent_row(identity: Identity, certificate_pem: bytes) -> AgentRow:
    """The row of a certificate that was issued to ``identity``."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    return AgentRow(
        identity.agent,
        identity.tenant,
        f"{certificate.serial_number:x}",
        certificate.fingerprint(hashes.SHA256()).hex(),
        int(certificate.not_valid_after_utc.timestamp()),
        role=identity.role,
    )


def add_tenant(connection: Connection, tenant: TenantId) -> bool:
    """Insert ``tenant``; False when it was there."""
    if connection.execute(select(tenants).where(tenants.c.tenant == tenant)).one_or_none() is not None:
        return False
    connection.execute(insert(tenants).values(tenant=tenant))
    return True


def forget_tenant(connection: Connection, tenant: TenantId) -> int:
    """Delete every row that names ``tenant``; returns how many."""
    owned = [table for table in reversed(metadata.sorted_tables) if "tenant" in table.c]
    return sum(connection.execute(delete(table).where(table.c.tenant == tenant)).rowcount for table in owned)


def put_tenant(connection: Connection, row: TenantRow) -> None:
    """Limits and suspension of a tenant.

    Raises:
        NotFoundError: there is no such tenant.
    """
    values = {"suspended": row.suspended, **dataclasses.asdict(row.limits)}
    if connection.execute(update(tenants).where(tenants.c.tenant == row.tenant).values(**values)).rowcount == 0:
        raise _no_tenant(row.tenant)


def tenant_row(connection: Connection, tenant: TenantId) -> TenantRow:
    """One tenant. Raises NotFoundError."""
    row = connection.execute(select(tenants).where(tenants.c.tenant == tenant)).one_or_none()
    if row is None:
        raise _no_tenant(tenant)
    return _tenant(row)


def tenant_rows(connection: Connection) -> tuple[TenantRow, ...]:
    """All tenants, by name."""
    return tuple(_tenant(row) for row in connection.execute(select(tenants).order_by(tenants.c.tenant)))


def put_agent(connection: Connection, row: AgentRow) -> None:
    """Insert or replace one agent; its tenant must be there.

    Raises:
        AccessDeniedError: it was revoked, which nothing takes back.
    """
    known = connection.execute(select(agents.c.revoked).where(agents.c.agent == row.agent)).one_or_none()
    if known is not None and known.revoked is not None and row.revoked is None:
        raise _revoked(row.agent)
    connection.execute(delete(agents).where(agents.c.agent == row.agent))
    connection.execute(insert(agents).values(**dataclasses.asdict(row)))


def revoke_agent(connection: Connection, agent: AgentId, now: int) -> AgentRow:
    """Let the agent in no more; returns its row, with the time at which that began.

    Raises:
        NotFoundError: there is no such agent.
    """
    here = agents.c.agent == agent
    connection.execute(update(agents).where(here, agents.c.revoked.is_(None)).values(revoked=now))
    row = connection.execute(select(agents).where(here)).one_or_none()
    if row is None:
        raise NotFoundError(
            f"no agent {agent} is registered",
            subject=f"agent {agent}",
            next_step="list agents with target-appliance tenants list",
        )
    return _agent(row)


def list_agents(connection: Connection, tenant: TenantId) -> tuple[AgentRow, ...]:
    """The tenant's agents, by id, revoked ones included."""
    rows = connection.execute(select(agents).where(agents.c.tenant == tenant).order_by(agents.c.agent))
    return tuple(_agent(row) for row in rows)


def admit(connection: Connection, identity: Identity) -> None:
    """Return if the agent is registered here for its tenant, and neither is shut out.

    Raises:
        CertificateError: it was never registered, or was revoked; an unknown tenant and an unknown agent look the same.
        AccessDeniedError: its tenant is suspended.
    """
    found = connection.execute(
        select(agents.c.revoked, tenants.c.suspended)
        .join(tenants, agents.c.tenant == tenants.c.tenant)
        .where(
            agents.c.agent == identity.agent,
            agents.c.tenant == identity.tenant,
            agents.c.role == identity.role,
        )
    ).one_or_none()
    if found is None:
        raise _not_registered(identity.role, identity.agent, identity.tenant)
    if found.revoked is not None:
        raise CertificateError(
            f"{identity.role} {identity.agent} of tenant {identity.tenant} was revoked",
            subject=f"agent {identity.agent}",
            next_step="register a new agent if it is to come back",
        )
    if found.suspended is not None:
        raise _suspended(identity.tenant)


def refuse_suspended(connection: Connection, tenant: TenantId) -> None:
    """Return if the tenant is not suspended. Raises AccessDeniedError."""
    found = connection.execute(select(tenants.c.suspended).where(tenants.c.tenant == tenant)).one_or_none()
    if found is not None and found.suspended is not None:
        raise _suspended(tenant)


def welcome(connection: Connection, row: AgentRow) -> bool:
    """Register a caller for whom its tenant's own authority vouches, or note its newer certificate; True for a new one.

    Raises:
        CertificateError: the tenant is not registered, the id is another tenant's or role's, or it was revoked.
        LimitExceededError: the tenant has too many.
    """
    known = connection.execute(select(agents).where(agents.c.agent == row.agent)).one_or_none()
    if known is not None:
        if (known.tenant, known.role, known.revoked) != (row.tenant, row.role, None):
            raise _not_registered(row.role, row.agent, row.tenant)
        if known.not_after < row.not_after:
            put_agent(connection, row)
        return False
    if connection.execute(select(tenants).where(tenants.c.tenant == row.tenant)).one_or_none() is None:
        raise _not_registered(row.role, row.agent, row.tenant)
    if len(list_agents(connection, row.tenant)) >= MOST_AGENTS:
        raise LimitExceededError(
            f"tenant {row.tenant} has {MOST_AGENTS} agents, which is the limit",
            subject=f"tenant {row.tenant}",
            next_step="keep the ids of agents when their certificates are issued again",
        )
    put_agent(connection, row)
    return True


def _tenant(row: Row[tuple[object, ...]]) -> TenantRow:
    limits = TenantLimits(row.quota_bytes, row.max_vms, row.max_streams, row.bandwidth_bytes)
    return TenantRow(TenantId(row.tenant), limits, row.suspended)


def _agent(row: Row[tuple[object, ...]]) -> AgentRow:
    return AgentRow(
        AgentId(row.agent),
        TenantId(row.tenant),
        row.serial,
        row.fingerprint,
        row.not_after,
        row.revoked,
        Role(row.role),
    )


def _suspended(tenant: TenantId) -> AccessDeniedError:
    return AccessDeniedError(
        f"tenant {tenant} is suspended at this appliance",
        subject=f"tenant {tenant}",
        next_step="ask the target's operator, who can take it back with target-appliance tenants resume",
    )


def _no_tenant(tenant: TenantId) -> NotFoundError:
    return NotFoundError(
        f"no tenant {tenant} is registered",
        subject=f"tenant {tenant}",
        next_step="list tenants with target-appliance tenants list",
    )


def _not_registered(role: Role, agent: AgentId, tenant: TenantId) -> CertificateError:
    return CertificateError(
        f"{role} {agent} of tenant {tenant} is not registered at this appliance",
        subject=f"agent {agent}",
        next_step="pair it with a line of target-appliance agents add",
    )


def _revoked(agent: AgentId) -> AccessDeniedError:
    return AccessDeniedError(
        f"agent {agent} was revoked", subject=f"agent {agent}", next_step="register a new agent in its place"
    )

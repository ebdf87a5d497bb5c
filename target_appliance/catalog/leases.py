"""One writer per replica: leases with fencing tokens. Each function runs inside the caller's write transaction.

A token is higher than every earlier one of its replica, and never lower than the time in microseconds at which it was
made, so that tokens go on rising after a catalog was lost and rebuilt.
"""

import dataclasses
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update

from common.errors import BusyError, FencedError
from common.ids import AgentId, ReplicaId, SyncId, TenantId
from target_appliance.catalog.model import Lease, leases


def take(
    connection: Connection,
    tenant: TenantId,
    replica: ReplicaId,
    agent: AgentId,
    sync: SyncId,
    *,
    now: float,
    ttl: float,
) -> Lease:
    """The lease for ``sync``, for ``ttl`` seconds. The same agent's earlier lease ends at once.

    Raises:
        BusyError: another agent holds it; the message says until when.
    """
    require_free(connection, tenant, replica, agent, now=now)
    row = _row(connection, tenant, replica)
    token = max((0 if row is None else row.token) + 1, int(now * 1_000_000))
    lease = Lease(tenant, replica, agent, sync, token, now + ttl)
    if row is None:
        connection.execute(insert(leases).values(**dataclasses.asdict(lease)))
    else:
        connection.execute(update(leases).where(_is(tenant, replica)).values(**dataclasses.asdict(lease)))
    return lease


def require_free(connection: Connection, tenant: TenantId, replica: ReplicaId, agent: AgentId, *, now: float) -> None:
    """Return if ``agent`` could take the lease now.

    Raises:
        BusyError: another agent holds it; the message says until when.
    """
    row = _row(connection, tenant, replica)
    if row is not None and row.sync is not None and row.agent != agent and row.expires > now:
        lapses = datetime.fromtimestamp(row.expires, UTC)
        raise BusyError(
            f"agent {row.agent} is writing replica {replica}; its lease lapses at {lapses:%Y-%m-%d %H:%M:%S} UTC",
            subject=f"replica {replica}",
            next_step="protect the VM by one agent only, or wait until then",
        )


def check(connection: Connection, lease: Lease, *, now: float) -> None:
    """Return if ``lease`` is still the replica's newest and has not lapsed.

    Raises:
        FencedError: a newer sync took the replica over, or the lease was released or lapsed.
    """
    row = _row(connection, lease.tenant, lease.replica)
    if row is None or row.token != lease.token or row.sync != lease.sync:
        raise _fenced(lease, "a newer sync took its replica over, or it had ended")
    if row.expires <= now:
        raise _fenced(lease, "its lease lapsed")


def renew(connection: Connection, lease: Lease, *, now: float, ttl: float) -> Lease:
    """The same lease for another ``ttl`` seconds. A lapsed one that nobody took meanwhile may be renewed.

    Raises:
        FencedError: a newer sync took the replica over, or the lease was released.
    """
    renewed = dataclasses.replace(lease, expires=now + ttl)
    done = connection.execute(
        update(leases)
        .where(_is(lease.tenant, lease.replica), leases.c.token == lease.token, leases.c.sync == lease.sync)
        .values(expires=renewed.expires)
    )
    if done.rowcount != 1:
        raise _fenced(lease, "a newer sync took its replica over, or it had ended")
    return renewed


def release(connection: Connection, lease: Lease) -> None:
    """Give the replica free; nothing happens when the lease was taken over already."""
    connection.execute(
        update(leases).where(_is(lease.tenant, lease.replica), leases.c.token == lease.token).values(sync=None)
    )


def release_all(connection: Connection, agent: AgentId) -> None:
    """Give every replica free that ``agent`` holds; its syncs may write no more."""
    connection.execute(update(leases).where(leases.c.agent == agent).values(sync=None))


def live_syncs(connection: Connection, *, now: float, tenant: TenantId | None = None) -> frozenset[SyncId]:
    """Syncs whose lease stands, of all tenants or of one: their staging folders must stay."""
    wanted = select(leases.c.sync).where(leases.c.sync.is_not(None), leases.c.expires > now)
    if tenant is not None:
        wanted = wanted.where(leases.c.tenant == tenant)
    return frozenset(SyncId(row.sync) for row in connection.execute(wanted))


def _row(connection: Connection, tenant: TenantId, replica: ReplicaId) -> Row[tuple[object, ...]] | None:
    return connection.execute(select(leases).where(_is(tenant, replica))).one_or_none()


def _is(tenant: TenantId, replica: ReplicaId) -> ColumnElement[bool]:
    return (leases.c.tenant == tenant) & (leases.c.replica == replica)


def _fenced(lease: Lease, cause: str) -> FencedError:
    return FencedError(
        f"sync {lease.sync} of replica {lease.replica} may write no more: {cause}",
        subject=f"sync {lease.sync}",
        next_step="start a new sync",
    )

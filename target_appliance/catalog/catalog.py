"""The catalog: each method one transaction. May be used from any thread, and by several processes on one database.

Every method may raise StoreError (the database does not work; retrying may help) and StoreFullError.
"""

from collections.abc import Callable
from typing import Self

import sqlalchemy

from common.clock import Clock
from common.closing import Closing
from common.ids import AgentId, ReplicaId, SyncId, TenantId
from target_appliance.catalog import leases, pairings, points, rebuild, register, schema, scrubs
from target_appliance.catalog.database import Database
from target_appliance.catalog.model import AgentRow, Lease, PointRow, ReplicaRow, ScrubRow, TenantRow, Usage
from target_appliance.identity.authn import Identity
from target_appliance.recovery.types import PointRecord


class Catalog(Closing):
    """Tenants, agents, replicas, points and leases."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    @classmethod
    def open(cls, url: str, clock: Clock) -> Self:
        """The catalog at an SQLAlchemy URL, made or brought up to date where necessary.

        Raises:
            ConfigError: the URL or its driver cannot be used.
            PreconditionError: a newer version of Keysapart wrote it.
        """
        database = Database(url)
        try:
            schema.upgrade(database)
        except BaseException:
            database.close()
            raise
        return cls(database, clock)

    def close(self) -> None:
        """Drop all connections."""
        self._database.close()

    def probe(self) -> None:
        """Ask a cheap question; raises StoreError when the database does not answer it."""
        with self._database.reading() as connection:
            connection.execute(sqlalchemy.select(schema.REVISIONS.c.version_num)).scalar_one()

    # Tenants and agents

    def add_tenant(self, tenant: TenantId) -> bool:
        """Register ``tenant``; False when it was registered before."""
        with self._database.writing() as connection:
            return register.add_tenant(connection, tenant)

    def tenants(self) -> tuple[TenantId, ...]:
        """All tenants, by name."""
        with self._database.reading() as connection:
            return tuple(row.tenant for row in register.tenant_rows(connection))

    def tenant(self, tenant: TenantId) -> TenantRow:
        """One tenant. Raises NotFoundError."""
        with self._database.reading() as connection:
            return register.tenant_row(connection, tenant)

    def put_tenant(self, row: TenantRow) -> None:
        """Set limits and suspension of a registered tenant. Raises NotFoundError."""
        with self._database.writing() as connection:
            register.put_tenant(connection, row)

    def forget_tenant(self, tenant: TenantId) -> int:
        """Delete every row of a tenant, so that the database's file holds no trace of them; returns how many."""
        with self._database.writing() as connection:
            count = register.forget_tenant(connection, tenant)
        self._database.compact()
        return count

    def usage(self, tenant: TenantId) -> Usage:
        """What a tenant's committed points take."""
        with self._database.reading() as connection:
            return points.usage(connection, tenant)

    def put_agent(self, row: AgentRow) -> None:
        """Register an agent of a registered tenant, or note its new certificate.

        Raises:
            AccessDeniedError: it was revoked.
        """
        with self._database.writing() as connection:
            register.put_agent(connection, row)

    def agents(self, tenant: TenantId) -> tuple[AgentRow, ...]:
        """The tenant's agents, by id, revoked ones included."""
        with self._database.reading() as connection:
            return register.list_agents(connection, tenant)

    def revoke_agent(self, agent: AgentId) -> AgentRow:
        """Let an agent in no more, from now on; its replicas are free at once. Raises NotFoundError."""
        with self._database.writing() as connection:
            leases.release_all(connection, agent)
            return register.revoke_agent(connection, agent, int(self._now()))

    def welcome(self, row: AgentRow) -> bool:
        """Register a caller for whom its tenant's own authority vouches, or its newer certificate; True for a new one.

        Raises:
            CertificateError: the tenant is not registered, the id is another tenant's or role's, or it was revoked.
            LimitExceededError: the tenant has too many.
        """
        with self._database.writing() as connection:
            return register.welcome(connection, row)

    def admit(self, identity: Identity) -> None:
        """Return if the agent is registered for its tenant; asked at every call, because connections live long.

        Raises:
            CertificateError: it is not, or it was revoked.
            AccessDeniedError: the tenant is suspended.
        """
        with self._database.reading() as connection:
            register.admit(connection, identity)

    # Pairing

    def add_pairing(self, token: bytes, tenant: TenantId, agent: AgentId, valid_seconds: int) -> None:
        """Let ``token`` bring ``agent`` of a registered tenant in, once."""
        with self._database.writing() as connection:
            pairings.add(connection, token, tenant, agent, now=int(self._now()), valid=valid_seconds)

    def pair(self, token: bytes, issue: Callable[[TenantId, AgentId], AgentRow]) -> AgentRow:
        """Use ``token`` up and register the agent that it is for, both or neither.

        Args:
            token: as the agent sent it.
            issue: makes the agent's certificate; it runs within the transaction, and what it raises undoes all.

        Raises:
            AccessDeniedError: the token does not count; the message is for the log, not for who sent it.
        """
        with self._database.writing() as connection:
            tenant, agent = pairings.spend(connection, token, now=int(self._now()))
            row = issue(tenant, agent)
            register.put_agent(connection, row)
        return row

    # Leases

    def take_lease(self, tenant: TenantId, replica: ReplicaId, agent: AgentId, sync: SyncId, ttl: float) -> Lease:
        """The right to write ``replica`` for ``ttl`` seconds. The same agent's earlier lease ends at once.

        Raises:
            BusyError: another agent holds it; the message says until when.
            AccessDeniedError: the tenant was suspended since the agent was let in.
        """
        with self._database.writing() as connection:
            register.refuse_suspended(connection, tenant)
            return leases.take(connection, tenant, replica, agent, sync, now=self._now(), ttl=ttl)

    def require_free(self, tenant: TenantId, replica: ReplicaId, agent: AgentId) -> None:
        """Return if ``agent`` could take the lease of ``replica`` now.

        Raises:
            BusyError: another agent holds it; the message says until when.
        """
        with self._database.reading() as connection:
            leases.require_free(connection, tenant, replica, agent, now=self._now())

    def renew(self, lease: Lease, ttl: float) -> Lease:
        """The same lease, for ``ttl`` seconds from now.

        Raises:
            FencedError: a newer sync took the replica over, or the lease was released.
        """
        with self._database.writing() as connection:
            return leases.renew(connection, lease, now=self._now(), ttl=ttl)

    def check(self, lease: Lease) -> None:
        """Return if ``lease`` still holds.

        Raises:
            FencedError: a newer sync took the replica over, or the lease was released or lapsed.
        """
        with self._database.reading() as connection:
            leases.check(connection, lease, now=self._now())

    def release(self, lease: Lease) -> None:
        """Give the replica free; no error when the lease was taken over already."""
        with self._database.writing() as connection:
            leases.release(connection, lease)

    def live_syncs(self, tenant: TenantId | None = None) -> frozenset[SyncId]:
        """Syncs whose lease stands, of all tenants or of one: their staging folders must stay."""
        with self._database.reading() as connection:
            return leases.live_syncs(connection, now=self._now(), tenant=tenant)

    # Replicas and points

    def record_point(self, record: PointRecord, stored_bytes: int) -> None:
        """Note a committed point and the VM's present name; noting it twice is fine."""
        row = points.row_of(record, stored_bytes)
        with self._database.writing() as connection:
            points.put_replica(connection, row.tenant, row.replica, record.vm_name)
            points.put_point(connection, row)

    def replicas(self, tenant: TenantId | None = None) -> tuple[ReplicaRow, ...]:
        """Replicas by tenant, VM name and id; of all tenants where none is named."""
        with self._database.reading() as connection:
            return points.list_replicas(connection, tenant)

    def find_replica(self, wanted: str, tenant: TenantId | None = None) -> ReplicaRow:
        """The replica whose id, or whose VM's name, is ``wanted``.

        Raises:
            NotFoundError: none is.
            PreconditionError: several VMs bear the name.
        """
        return points.choose_replica(self.replicas(tenant), wanted)

    def points(self, tenant: TenantId, replica: ReplicaId) -> tuple[PointRow, ...]:
        """Points of a replica, rising; empty when there is none."""
        with self._database.reading() as connection:
            return points.list_points(connection, tenant, replica)

    # What the scrub found

    def put_scrub(self, row: ScrubRow) -> None:
        """Note how far a look at a point is, or how it ended."""
        with self._database.writing() as connection:
            scrubs.put(connection, row)

    def forget_scrub(self, row: ScrubRow) -> None:
        """The point is there no more, and should not be."""
        with self._database.writing() as connection:
            scrubs.remove(connection, row)

    def scrubs(self, tenant: TenantId | None = None) -> tuple[ScrubRow, ...]:
        """All that was noted, by tenant, replica and number; of all tenants where none is named."""
        with self._database.reading() as connection:
            return scrubs.listed(connection, tenant)

    # The store is true, the catalog follows

    def reconcile(self, vault: rebuild.Vault) -> rebuild.Changes:
        """Add what only the store has, remove what only the catalog has; for the appliance's start.

        Raises:
            PreconditionError: the store is empty although the catalog knows points.
        """
        # Known rows are read before the store: a point that another process commits meanwhile is not taken for lost.
        with self._database.reading() as connection:
            known = points.list_points(connection)
        held = rebuild.read_vault(vault)
        rebuild.refuse_lost_store(held, known)
        changes = rebuild.compare(held, known)
        with self._database.writing() as connection:
            rebuild.apply(connection, held, changes)
        return changes

    def follow(self, vault: rebuild.Vault, tenant: TenantId, replica: ReplicaId) -> None:
        """Show one replica as the store has it now: points were dropped, or take other space than before."""
        known = self.points(tenant, replica)
        changes = rebuild.compare(rebuild.read_vault(vault, (tenant, replica)), known)
        with self._database.writing() as connection:
            points.remove_points(connection, changes.removed)
            for row in changes.added:
                points.put_point(connection, row)

    def rebuild(self, vault: rebuild.Vault) -> rebuild.Held:
        """Forget all replicas and points, then take them from the store. Tenants, agents and leases stay."""
        held = rebuild.read_vault(vault)
        with self._database.writing() as connection:
            rebuild.forget(connection)
            rebuild.apply(connection, held, rebuild.compare(held, ()))
        return held

    def _now(self) -> float:
        return self._clock.now().timestamp()

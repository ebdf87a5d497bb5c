"""The catalog and the store compared: what the store has is true, the catalog follows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Connection, delete

from common.errors import DamagedError, PreconditionError
from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.catalog import points as point_rows
from target_appliance.catalog import register
from target_appliance.catalog.model import PointRow, points, replicas
from target_appliance.catalog.points import row_of
from target_appliance.recovery.types import PointRecord


class Vault(Protocol):
    """What the store holds; ``target_appliance.recovery.vault.Vault`` is one."""

    def tenants(self) -> Sequence[TenantId]:
        """Tenants that have a folder."""
        ...

    def replicas(self, tenant: TenantId) -> Sequence[ReplicaId]:
        """Replicas of a tenant, those without a point included."""
        ...

    def point(self, tenant: TenantId, replica: ReplicaId, number: PointNumber) -> PointRecord:
        """One point's record. Raises DamagedError."""
        ...

    def dropped_numbers(self, tenant: TenantId, replica: ReplicaId) -> Sequence[PointNumber]:
        """Numbers of the points that were dropped, rising."""
        ...

    def every_stored_bytes(self, tenant: TenantId, replica: ReplicaId) -> Mapping[PointNumber, int]:
        """What each committed point's files take, rising by point."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """All that a store holds, read at once."""

    tenants: tuple[TenantId, ...] = ()
    vm_names: dict[tuple[TenantId, ReplicaId], str] = field(default_factory=dict)
    """By the newest point that can be read."""
    points: frozenset[PointRow] = frozenset()
    damaged: dict[tuple[TenantId, ReplicaId, PointNumber], str] = field(default_factory=dict)
    """Points that exist, but whose record cannot be read, with the reason."""
    dropped: frozenset[tuple[TenantId, ReplicaId, PointNumber]] = frozenset()
    """Points that are gone on purpose."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What the catalog lacked, what it had too much, and what nobody can say of damaged points."""

    added: tuple[PointRow, ...]
    removed: tuple[PointRow, ...]
    damaged: dict[tuple[TenantId, ReplicaId, PointNumber], str]
    dropped: frozenset[tuple[TenantId, ReplicaId, PointNumber]] = frozenset()

    @property
    def found(self) -> tuple[PointRow, ...]:
        """Points that the catalog did not know."""
        known = {_order(row) for row in self.removed}
        return tuple(row for row in self.added if _order(row) not in known)

    @property
    def gone(self) -> tuple[PointRow, ...]:
        """Points that nobody dropped, and that are not there any more."""
        there = {_order(row) for row in self.added} | self.dropped
        return tuple(row for row in self.removed if _order(row) not in there)


def read_vault(vault: Vault, only: tuple[TenantId, ReplicaId] | None = None) -> Held:
    """Everything in the store that the catalog shows, or one replica. One damaged record hides no other point."""
    tenants = tuple(vault.tenants()) if only is None else (only[0],)
    names: dict[tuple[TenantId, ReplicaId], str] = {}
    rows: set[PointRow] = set()
    damaged: dict[tuple[TenantId, ReplicaId, PointNumber], str] = {}
    dropped: set[tuple[TenantId, ReplicaId, PointNumber]] = set()
    for tenant in tenants:
        for replica in vault.replicas(tenant) if only is None else (only[1],):
            dropped |= {(tenant, replica, number) for number in vault.dropped_numbers(tenant, replica)}
            stored_bytes = vault.every_stored_bytes(tenant, replica)
            for number in stored_bytes:
                try:
                    record = vault.point(tenant, replica, number)
                except DamagedError as error:
                    damaged[tenant, replica, number] = error.message
                    continue
                rows.add(row_of(record, stored_bytes[number]))
                names[tenant, replica] = record.vm_name
    return Held(tenants, names, frozenset(rows), damaged, frozenset(dropped))


def compare(held: Held, known: Sequence[PointRow]) -> Changes:
    """Rows to add and to remove so that the catalog shows what is held. A row that differs is in both.

    A damaged point exists: what the catalog knows of it stays.
    """
    kept = {row for row in known if (row.tenant, row.replica, row.number) in held.damaged}
    return Changes(
        tuple(sorted(held.points - set(known), key=_order)),
        tuple(sorted(set(known) - held.points - kept, key=_order)),
        held.damaged,
        held.dropped,
    )


def refuse_lost_store(held: Held, known: Sequence[PointRow]) -> None:
    """Return unless the store is empty where the catalog knows points: then the wrong volume is mounted.

    Raises:
        PreconditionError: so it is.
    """
    if known and not held.points and not held.damaged:
        raise PreconditionError(
            f"the store is empty, but the catalog knows {len(known)} points",
            subject="store",
            next_step="mount the store's volume or correct store_dir; if the points are gone on purpose, run "
            "target-appliance catalog rebuild",
        )


def apply(connection: Connection, held: Held, changes: Changes) -> None:
    """Write ``changes``, and names that the catalog lacks."""
    for tenant in held.tenants:
        register.add_tenant(connection, tenant)
    for (tenant, replica), vm_name in held.vm_names.items():
        point_rows.put_replica(connection, tenant, replica, vm_name)
    point_rows.remove_points(connection, changes.removed)
    for row in changes.added:
        point_rows.put_point(connection, row)


def forget(connection: Connection) -> None:
    """Remove all replicas and points from the catalog; leases stay, so that fencing tokens go on rising."""
    connection.execute(delete(points))
    connection.execute(delete(replicas))


def _order(row: PointRow) -> tuple[TenantId, ReplicaId, PointNumber]:
    return (row.tenant, row.replica, row.number)

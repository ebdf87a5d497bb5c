"""The catalog and the store compared: what the store has is true, the catalog follows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection, delete

from common.errors import PreconditionError
from common.ids import ReplicaId, TenantId
from target_appliance.catalog import points as point_rows
from target_appliance.catalog import register
from target_appliance.catalog.model import PointRow, points, replicas


class Vault(Protocol):
    """What the store holds, as ``target_appliance.recovery`` reads it."""

    def tenants(self) -> Iterable[TenantId]:
        """Tenants that have a folder."""
        ...

    def replicas(self, tenant: TenantId) -> Iterable[ReplicaId]:
        """Replicas of a tenant."""
        ...

    def vm_name(self, tenant: TenantId, replica: ReplicaId) -> str:
        """Name of the VM at the newest sync."""
        ...

    def point_rows(self, tenant: TenantId, replica: ReplicaId) -> Iterable[PointRow]:
        """The committed points, rising."""
        ...


@dataclass(frozen=True, slots=True)
class Held:
    """All that a store holds, read at once."""

    tenants: tuple[TenantId, ...]
    vm_names: dict[tuple[TenantId, ReplicaId], str]
    points: frozenset[PointRow]


@dataclass(frozen=True, slots=True)
class Changes:
    """What the catalog lacked, and what it had too much."""

    added: tuple[PointRow, ...]
    removed: tuple[PointRow, ...]


def read_vault(vault: Vault) -> Held:
    """Everything in the store that the catalog shows."""
    tenants = tuple(vault.tenants())
    vm_names = {
        (tenant, replica): vault.vm_name(tenant, replica) for tenant in tenants for replica in vault.replicas(tenant)
    }
    rows = frozenset(row for tenant, replica in vm_names for row in vault.point_rows(tenant, replica))
    return Held(tenants, vm_names, rows)


def compare(held: Held, known: Sequence[PointRow]) -> Changes:
    """Rows to add and to remove so that the catalog shows what is held. A row that differs is in both."""
    return Changes(
        tuple(sorted(held.points - set(known), key=_order)), tuple(sorted(set(known) - held.points, key=_order))
    )


def refuse_lost_store(held: Held, known: Sequence[PointRow]) -> None:
    """Return unless the store is empty where the catalog knows points: then the wrong volume is mounted.

    Raises:
        PreconditionError: so it is.
    """
    if known and not held.points:
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


def _order(row: PointRow) -> tuple[str, str, int]:
    return (row.tenant, row.replica, row.number)

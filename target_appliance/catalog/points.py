"""Replicas and points in the catalog. Each function runs inside the caller's transaction."""

import dataclasses
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, select, update

from common.errors import NotFoundError, PreconditionError
from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.catalog.model import PointRow, ReplicaRow, Usage, points, replicas
from target_appliance.recovery.types import PointRecord


def row_of(record: PointRecord, stored_bytes: int) -> PointRow:
    """What the catalog shows of a committed point that takes ``stored_bytes`` in the store."""
    return PointRow(
        record.tenant,
        record.replica,
        record.number,
        record.kind.value,
        record.snapshot_time,
        sum(disk.spec.capacity_bytes for disk in record.disks),
        stored_bytes,
        record.record_hash,
    )


def put_replica(connection: Connection, tenant: TenantId, replica: ReplicaId, vm_name: str) -> None:
    """Insert a replica, or note the VM's present name."""
    here = and_(replicas.c.tenant == tenant, replicas.c.replica == replica)
    name = vm_name[:1024]
    if connection.execute(update(replicas).where(here).values(vm_name=name)).rowcount == 0:
        connection.execute(insert(replicas).values(tenant=tenant, replica=replica, vm_name=name))


def put_point(connection: Connection, row: PointRow) -> None:
    """Insert or replace one point; its replica must be there."""
    connection.execute(delete(points).where(_is(row)))
    connection.execute(insert(points).values(**dataclasses.asdict(row)))


def remove_points(connection: Connection, rows: Iterable[PointRow]) -> None:
    """Remove rows; what the store holds is not touched."""
    for row in rows:
        connection.execute(delete(points).where(_is(row)))


def usage(connection: Connection, tenant: TenantId) -> Usage:
    """Replicas that have a point, and what all points of the tenant take."""
    query = select(points.c.replica, func.sum(points.c.stored_bytes)).where(points.c.tenant == tenant)
    found = connection.execute(query.group_by(points.c.replica)).all()
    return Usage(frozenset(ReplicaId(replica) for replica, _ in found), sum(int(stored) for _, stored in found))


def list_points(
    connection: Connection, tenant: TenantId | None = None, replica: ReplicaId | None = None
) -> tuple[PointRow, ...]:
    """Points by tenant, replica and number; of all where not narrowed."""
    query = select(points).order_by(points.c.tenant, points.c.replica, points.c.number)
    if tenant is not None:
        query = query.where(points.c.tenant == tenant)
    if replica is not None:
        query = query.where(points.c.replica == replica)
    return tuple(
        PointRow(
            TenantId(row.tenant),
            ReplicaId(row.replica),
            PointNumber(row.number),
            row.kind,
            row.time,
            row.capacity_bytes,
            row.stored_bytes,
            row.record_hash,
        )
        for row in connection.execute(query)
    )


def list_replicas(connection: Connection, tenant: TenantId | None = None) -> tuple[ReplicaRow, ...]:
    """Replicas by tenant, VM name and id, with a summary of their points."""
    summary = (
        select(
            points.c.tenant,
            points.c.replica,
            func.count().label("points"),
            func.max(points.c.number).label("newest"),
            func.sum(points.c.stored_bytes).label("stored_bytes"),
        )
        .group_by(points.c.tenant, points.c.replica)
        .subquery()
    )
    query = (
        select(replicas, summary.c.points, summary.c.newest, summary.c.stored_bytes, points.c.time)
        .outerjoin(summary, and_(summary.c.tenant == replicas.c.tenant, summary.c.replica == replicas.c.replica))
        .outerjoin(
            points,
            and_(
                points.c.tenant == replicas.c.tenant,
                points.c.replica == replicas.c.replica,
                points.c.number == summary.c.newest,
            ),
        )
        .order_by(replicas.c.tenant, replicas.c.vm_name, replicas.c.replica)
    )
    if tenant is not None:
        query = query.where(replicas.c.tenant == tenant)
    return tuple(
        ReplicaRow(
            TenantId(row.tenant),
            ReplicaId(row.replica),
            row.vm_name,
            row.points or 0,
            None if row.newest is None else PointNumber(row.newest),
            row.time,
            int(row.stored_bytes or 0),
        )
        for row in connection.execute(query)
    )


def choose_replica(rows: Sequence[ReplicaRow], wanted: str) -> ReplicaRow:
    """The one of ``rows`` whose id, or whose VM's name, is ``wanted``.

    Raises:
        NotFoundError: none is.
        PreconditionError: several VMs bear the name.
    """
    fitting = [row for row in rows if row.replica == wanted] or [row for row in rows if row.vm_name == wanted]
    if not fitting:
        raise NotFoundError(
            f"there is no replica {wanted[:80]!a}",
            subject=f"replica {wanted[:80]!a}",
            next_step="list them with target-appliance replicas",
        )
    if len(fitting) > 1:
        listed = ", ".join(f"{row.replica} of tenant {row.tenant}" for row in fitting)
        raise PreconditionError(
            f"{len(fitting)} replicas are called {wanted[:80]!a}: {listed}",
            subject=f"replica {wanted[:80]!a}",
            next_step="give the replica's id, or the tenant with --tenant",
        )
    return fitting[0]


def _is(row: PointRow) -> ColumnElement[bool]:
    return and_(points.c.tenant == row.tenant, points.c.replica == row.replica, points.c.number == row.number)

"""What the scrub found, in the catalog. Each function runs inside the caller's transaction.

Nothing here is needed to read a point. Who loses it, with the catalog, has points that count as never checked.
"""

import dataclasses

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select

from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.catalog.model import ScrubRow, scrubs, tenants


def put(connection: Connection, row: ScrubRow) -> None:
    """Insert or replace; of a tenant that is gone nothing is noted."""
    if connection.execute(select(tenants.c.tenant).where(tenants.c.tenant == row.tenant)).first() is None:
        return
    connection.execute(delete(scrubs).where(_is(row)))
    connection.execute(insert(scrubs).values(**dataclasses.asdict(row)))


def remove(connection: Connection, row: ScrubRow) -> None:
    """Forget a point; no error where there is none."""
    connection.execute(delete(scrubs).where(_is(row)))


def listed(connection: Connection, tenant: TenantId | None) -> tuple[ScrubRow, ...]:
    """By tenant, replica and number."""
    query = select(scrubs).order_by(scrubs.c.tenant, scrubs.c.replica, scrubs.c.number)
    if tenant is not None:
        query = query.where(scrubs.c.tenant == tenant)
    return tuple(
        ScrubRow(
            TenantId(row.tenant),
            ReplicaId(row.replica),
            PointNumber(row.number),
            row.state,
            row.checked,
            bool(row.with_key),
            row.what,
            row.so_far,
            row.mark,
            row.mark_offset,
            bool(row.again),
        )
        for row in connection.execute(query)
    )


def _is(row: ScrubRow) -> ColumnElement[bool]:
    return and_(scrubs.c.tenant == row.tenant, scrubs.c.replica == row.replica, scrubs.c.number == row.number)

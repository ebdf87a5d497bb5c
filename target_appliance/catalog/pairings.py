"""One-time tokens in the catalog. Each function runs inside the caller's write transaction.

A token lets one agent in once: whoever sets ``used`` first has it, and it is set in the transaction that registers the
agent.
"""

import hashlib
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from common.errors import AccessDeniedError
from common.ids import AgentId, TenantId
from target_appliance.catalog.model import pairings, tenants

_KEPT_SECONDS: Final = 30 * 86400
"""How long a token that is over is remembered, so that the log can say what became of it."""


def add(connection: Connection, token: bytes, tenant: TenantId, agent: AgentId, *, now: int, valid: int) -> None:
    """Let ``token`` bring ``agent`` of a registered tenant in, for ``valid`` seconds."""
    connection.execute(delete(pairings).where(pairings.c.expires < now - _KEPT_SECONDS))
    connection.execute(insert(pairings).values(digest=_digest(token), tenant=tenant, agent=agent, expires=now + valid))


def spend(connection: Connection, token: bytes, *, now: int) -> tuple[TenantId, AgentId]:
    """Use the token up: whose agent it brings in.

    Raises:
        AccessDeniedError: the token is unknown, used or expired, or its tenant is suspended; the message is for
            the log.
    """
    mine = pairings.c.digest == _digest(token)
    unused = update(pairings).where(mine, pairings.c.used.is_(None), pairings.c.expires > now)
    won = connection.execute(unused.values(used=now)).rowcount == 1
    query = select(pairings, tenants.c.suspended).join(tenants, tenants.c.tenant == pairings.c.tenant).where(mine)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise _refused("the token is unknown, or was altered")
    if not won:
        why = "was used before" if row.used is not None else "has expired"
        raise _refused(f"the token for agent {row.agent} of tenant {row.tenant} {why}")
    if row.suspended is not None:
        raise _refused(f"tenant {row.tenant} is suspended")
    return TenantId(row.tenant), AgentId(row.agent)


def _digest(token: bytes) -> str:
    return hashlib.sha256(token).hexdigest()


def _refused(why: str) -> AccessDeniedError:
    return AccessDeniedError(
        why, subject="pairing", next_step="make a new pairing line with target-appliance agents add"
    )

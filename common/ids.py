"""The names of things: tenant, replica, disk, sync, point. Parsed once, at the edge; trusted afterwards.

Every identifier that becomes part of a path is matched against a pattern that admits neither separators nor dots,
so that no name from the wire can leave the store.
"""

import re
import uuid
from typing import NewType

from common.errors import InvalidInputError

TenantId = NewType("TenantId", str)
"""Who owns replicas: lower-case letters, digits and hyphens, at most 63 characters."""

AgentId = NewType("AgentId", str)
"""One source agent of a tenant: a lower-case UUID, taken from its certificate."""

ReplicaId = NewType("ReplicaId", str)
"""The target's copy of one VM: the VM's vSphere instance UUID in lower case."""

SyncId = NewType("SyncId", str)
"""One replication cycle: a lower-case UUID made by the target."""

DiskKey = NewType("DiskKey", int)
"""vSphere's device key of a virtual disk, 0 to 2**31 - 1."""

PointNumber = NewType("PointNumber", int)
"""A recovery point's number within its replica, 1 to 2**32 - 1."""

_TENANT = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHOWN = 80


def _shown(text: str) -> str:
    """A refused name, safe to print: no control characters, bounded."""
    return ascii(text[:_SHOWN])


def parse_tenant(text: str) -> TenantId:
    """The tenant called ``text``.

    Raises:
        InvalidInputError: the name is not a tenant's.
    """
    if not _TENANT.fullmatch(text):
        raise InvalidInputError(
            f"{_shown(text)} is not a tenant name",
            subject="tenant",
            next_step="use 1 to 63 lower-case letters, digits and inner hyphens",
        )
    return TenantId(text)


def _parse_uuid(text: str, what: str) -> str:
    if not _UUID.fullmatch(text):
        raise InvalidInputError(
            f"{_shown(text)} is not a {what} id", subject=what, next_step="give the lower-case UUID with hyphens"
        )
    return text


def parse_agent(text: str) -> AgentId:
    """The agent id ``text``. Raises InvalidInputError for anything but a lower-case UUID."""
    return AgentId(_parse_uuid(text, "agent"))


def parse_replica(text: str) -> ReplicaId:
    """The replica id ``text``. Raises InvalidInputError for anything but a lower-case UUID."""
    return ReplicaId(_parse_uuid(text, "replica"))


def parse_sync(text: str) -> SyncId:
    """The sync id ``text``. Raises InvalidInputError for anything but a lower-case UUID."""
    return SyncId(_parse_uuid(text, "sync"))


def new_sync_id() -> SyncId:
    """A fresh sync id."""
    return SyncId(str(uuid.uuid4()))


def parse_disk_key(number: int) -> DiskKey:
    """The disk key ``number``. Raises InvalidInputError outside 0 to 2**31 - 1."""
    if not 0 <= number < 1 << 31:
        raise InvalidInputError(
            f"{number} is not a disk key", subject="disk", next_step="give the vSphere device key, such as 2000"
        )
    return DiskKey(number)


def parse_point(number: int) -> PointNumber:
    """The point number ``number``. Raises InvalidInputError outside 1 to 2**32 - 1."""
    if not 1 <= number < 1 << 32:
        raise InvalidInputError(
            f"{number} is not a point number", subject="point", next_step="list them with target-appliance points"
        )
    return PointNumber(number)

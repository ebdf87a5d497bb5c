"""One row per RPC: who may call it, what its tenant rule is, how many at once, whether it is audited.

A method without a row is not served. ``tests/architecture`` holds this table against the service descriptors.
"""

import enum
from dataclasses import dataclass
from typing import Final


class Role(enum.Enum):
    """What a client certificate makes of its bearer."""

    AGENT = "agent"


class TenantRule(enum.Enum):
    """How a call is bound to the caller's tenant."""

    REPLICA = "names a replica, looked up within the caller's tenant"
    SYNC = "names a sync, which must be the caller's own"


@dataclass(frozen=True, slots=True)
class Row:
    """The policy of one RPC."""

    role: Role
    tenant_rule: TenantRule
    streams: bool
    """Counts against the tenant's cap of concurrent streams."""
    audit: bool
    """Leaves a line in the log for every call, refused ones included."""


_SERVICE: Final = "/keysapart.v1.Replication/"

POLICY: Final[dict[str, Row]] = {
    f"{_SERVICE}DescribeReplica": Row(Role.AGENT, TenantRule.REPLICA, streams=False, audit=False),
    f"{_SERVICE}BeginSync": Row(Role.AGENT, TenantRule.REPLICA, streams=False, audit=True),
    f"{_SERVICE}GetManifest": Row(Role.AGENT, TenantRule.SYNC, streams=True, audit=False),
    f"{_SERVICE}WriteDisk": Row(Role.AGENT, TenantRule.SYNC, streams=True, audit=True),
    f"{_SERVICE}RenewLease": Row(Role.AGENT, TenantRule.SYNC, streams=False, audit=False),
    f"{_SERVICE}CommitSync": Row(Role.AGENT, TenantRule.SYNC, streams=False, audit=True),
    f"{_SERVICE}ResumeSync": Row(Role.AGENT, TenantRule.SYNC, streams=False, audit=True),
    f"{_SERVICE}AbortSync": Row(Role.AGENT, TenantRule.SYNC, streams=False, audit=True),
}

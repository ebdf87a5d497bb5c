"""One row per RPC: who may call it, what its tenant rule is, how many at once, whether it is audited.

A method without a row is not served. ``tests/architecture`` holds this table against the service descriptors.
"""

import enum
from dataclasses import dataclass
from typing import Final

from target_appliance.identity.names import Role


class TenantRule(enum.Enum):
    """How a call is bound to the caller's tenant."""

    TENANT = "names nothing: what it answers is the caller's tenant's"
    REPLICA = "names a replica, looked up within the caller's tenant"
    OWN = "names nothing: it is about the caller alone"
    SYNC = "names a sync, which must be the caller's own"
    GIVEN = "the one that the token was made for"


@dataclass(frozen=True, slots=True)
class Row:
    """The policy of one RPC."""

    roles: frozenset[Role]
    tenant_rule: TenantRule
    streams: bool
    """Counts against the tenant's cap of concurrent streams."""
    audit: bool
    """Each call is told to the audit log; refused ones are, whatever this says."""


_NOBODY: Final[frozenset[Role]] = frozenset()
"""The enrolment port asks for no certificate; on the data port such a method is not served."""
_AGENT: Final = frozenset({Role.AGENT})
_OPERATOR: Final = frozenset({Role.OPERATOR})
_WRITE: Final = "/keysapart.v1.Replication/"
_READ: Final = "/keysapart.v1.Recovery/"

POLICY: Final[dict[str, Row]] = {
    f"{_WRITE}DescribeReplica": Row(_AGENT, TenantRule.REPLICA, streams=False, audit=False),
    f"{_WRITE}BeginSync": Row(_AGENT, TenantRule.REPLICA, streams=False, audit=True),
    f"{_WRITE}GetManifest": Row(_AGENT, TenantRule.SYNC, streams=True, audit=True),
    f"{_WRITE}WriteDisk": Row(_AGENT, TenantRule.SYNC, streams=True, audit=True),
    f"{_WRITE}RenewLease": Row(_AGENT, TenantRule.SYNC, streams=False, audit=False),
    f"{_WRITE}CommitSync": Row(_AGENT, TenantRule.SYNC, streams=False, audit=True),
    f"{_WRITE}ResumeSync": Row(_AGENT, TenantRule.SYNC, streams=False, audit=True),
    f"{_WRITE}AbortSync": Row(_AGENT, TenantRule.SYNC, streams=False, audit=True),
    f"{_WRITE}RenewCertificate": Row(_AGENT, TenantRule.OWN, streams=False, audit=True),
    f"{_READ}ListReplicas": Row(_OPERATOR, TenantRule.TENANT, streams=False, audit=True),
    f"{_READ}ListPoints": Row(_OPERATOR, TenantRule.REPLICA, streams=False, audit=True),
    f"{_READ}ReadDisk": Row(_OPERATOR, TenantRule.REPLICA, streams=True, audit=True),
    "/keysapart.v1.Enrollment/Enroll": Row(_NOBODY, TenantRule.GIVEN, streams=False, audit=True),
}

"""The catalog's tables, and the rows as the rest of the appliance sees them. Times are seconds since 1970-01-01 UTC."""

from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    LargeBinary,
    MetaData,
    String,
    Table,
)

from common.ids import AgentId, PointNumber, ReplicaId, SyncId, TenantId
from target_appliance.identity.names import Role

metadata = MetaData()

tenants = Table(
    "tenants",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("suspended", BigInteger, nullable=True),
    Column("quota_bytes", BigInteger, nullable=True),
    Column("max_vms", BigInteger, nullable=True),
    Column("max_streams", BigInteger, nullable=True),
    Column("bandwidth_bytes", BigInteger, nullable=True),
)

agents = Table(
    "agents",
    metadata,
    Column("agent", String(36), primary_key=True),
    Column("tenant", String(63), ForeignKey("tenants.tenant"), nullable=False),
    Column("serial", String(40), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("not_after", BigInteger, nullable=False),
    Column("revoked", BigInteger, nullable=True),
    Column("role", String(16), nullable=False),
)

replicas = Table(
    "replicas",
    metadata,
    Column("tenant", String(63), ForeignKey("tenants.tenant"), primary_key=True),
    Column("replica", String(36), primary_key=True),
    Column("vm_name", String(1024), nullable=False),
)

points = Table(
    "points",
    metadata,
    Column("tenant", String(63), primary_key=True),
    Column("replica", String(36), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("capacity_bytes", BigInteger, nullable=False),
    Column("stored_bytes", BigInteger, nullable=False),
    Column("record_hash", LargeBinary(32), nullable=False),
    ForeignKeyConstraint(["tenant", "replica"], ["replicas.tenant", "replicas.replica"]),
)

# A released or lapsed lease keeps its row: the next one's fencing token must be higher.
leases = Table(
    "leases",
    metadata,
    Column("tenant", String(63), ForeignKey("tenants.tenant"), primary_key=True),
    Column("replica", String(36), primary_key=True),
    Column("token", BigInteger, nullable=False),
    Column("agent", String(36), nullable=False),
    Column("sync", String(36), nullable=True),
    Column("expires", Double, nullable=False),
)

# Tokens are kept as digests only: who reads the catalog cannot pair.
pairings = Table(
    "pairings",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("tenant", String(63), ForeignKey("tenants.tenant"), nullable=False),
    Column("agent", String(36), nullable=False),
    Column("expires", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=True),
)


# Of points that are not in the catalog, too: one that is missing is noted.
scrubs = Table(
    "scrubs",
    metadata,
    Column("tenant", String(63), ForeignKey("tenants.tenant"), primary_key=True),
    Column("replica", String(36), primary_key=True),
    Column("number", BigInteger, primary_key=True),
    Column("state", String(16), nullable=True),
    Column("checked", BigInteger, nullable=True),
    Column("with_key", Boolean, nullable=False),
    Column("what", String(1024), nullable=False),
    Column("so_far", String(16), nullable=True),
    Column("mark", String(256), nullable=True),
    Column("mark_offset", BigInteger, nullable=False),
    Column("again", Boolean, nullable=False),
)


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What one tenant may take; None where nothing but the appliance's own bounds holds."""

    quota_bytes: int | None = None
    """Of the store, points and syncs under way together."""
    max_vms: int | None = None
    """Replicas."""
    max_streams: int | None = None
    """Disks written or read at once."""
    bandwidth_bytes: int | None = None
    """Data received a second, over all streams."""


@dataclass(frozen=True, slots=True)
class TenantRow:
    """One tenant."""

    tenant: TenantId
    limits: TenantLimits = TenantLimits()
    suspended: int | None = None
    """Since when none of its certificates is let in."""


@dataclass(frozen=True, slots=True)
class AgentRow:
    """One caller and the certificate it was issued."""

    agent: AgentId
    tenant: TenantId
    serial: str
    """Serial number in hexadecimal."""
    fingerprint: str
    """SHA-256 of the DER certificate in hexadecimal."""
    not_after: int
    revoked: int | None = None
    """Since when it is not let in any more."""
    role: Role = Role.AGENT


@dataclass(frozen=True, slots=True)
class ReplicaRow:
    """One replica, with what its newest point says; ``newest`` is None before the first one."""

    tenant: TenantId
    replica: ReplicaId
    vm_name: str
    """Name of the VM at the newest sync."""
    points: int
    newest: PointNumber | None
    newest_time: int | None
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class PointRow:
    """One recovery point."""

    tenant: TenantId
    replica: ReplicaId
    number: PointNumber
    kind: str
    """full, delta or compare."""
    time: int
    """When the source took the snapshot."""
    capacity_bytes: int
    """Sum of the disks' capacities."""
    stored_bytes: int
    """What the point occupies in the store."""
    record_hash: bytes
    """BLAKE3-256 of the point's record."""


@dataclass(frozen=True, slots=True)
class ScrubRow:
    """What the scrub found of one point."""

    tenant: TenantId
    replica: ReplicaId
    number: PointNumber
    state: str | None = None
    """Of the last look that was complete: good, corrupt, missing or unreachable; None before the first."""
    checked: int | None = None
    """When that look ended."""
    with_key: bool = False
    """It opened what is sealed, too."""
    what: str = ""
    """What was found, in words."""
    so_far: str | None = None
    """The worst state that the look under way has met; None when none is under way."""
    mark: str | None = None
    """How far the look under way is: a file of the point, and in it ``mark_offset``."""
    mark_offset: int = 0
    again: bool = False
    """The look under way is the second: the one before it found the point bad, and nobody was told yet."""

    @property
    def under_way(self) -> bool:
        """Whether a look has begun that is not complete."""
        return self.mark is not None or self.again


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant has."""

    replicas: frozenset[ReplicaId]
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class Lease:
    """The right of one sync to write one replica, until ``expires`` or until a higher token exists."""

    tenant: TenantId
    replica: ReplicaId
    agent: AgentId
    sync: SyncId
    token: int
    expires: float

"""What a sync announces and what a point is, as frozen values. Times are seconds since 1970-01-01 UTC."""

import enum
from dataclasses import dataclass

from common.ids import DiskKey, PointNumber, ReplicaId, SyncId, TenantId
from common.vm_configuration import VmConfiguration

NO_PARENT_HASH = bytes(32)
"""What a replica's first record names as its parent."""


class SyncKind(enum.StrEnum):
    """How a point, or a disk of it, came about."""

    FULL = "full"
    """Starts a chain: what is not stored is zeros."""
    DELTA = "delta"
    """Changed extents on top of the newest point."""
    COMPARE = "compare"
    """What differed from the newest point after everything was read."""


@dataclass(frozen=True, slots=True)
class DiskSpec:
    """One virtual disk as the source saw it at the snapshot; all strings are opaque to the target."""

    key: DiskKey
    uuid: str
    label: str
    capacity_bytes: int
    backing_path: str
    change_id: str
    encrypted: bool
    controller: str
    bus: int
    unit: int
    adapter: str
    """lsilogic, buslogic or ide."""
    kind: SyncKind


@dataclass(frozen=True, slots=True)
class SyncHeader:
    """What a sync says about itself at its beginning."""

    vm_name: str
    kind: SyncKind
    disks: tuple[DiskSpec, ...]
    base_point: int
    """Newest point that the source planned on; 0 for none."""
    snapshot_time: int
    consistency: str
    """crash or file-system."""
    configuration: VmConfiguration | None = None
    """What the VM was besides its disks; None when its agent did not tell, and once it is sealed."""


@dataclass(frozen=True, slots=True)
class DiskRecord:
    """One disk in a point's record."""

    spec: DiskSpec
    base_point: PointNumber | None
    """Point whose content holds where this one has nothing; None: zeros hold."""
    key_epoch: int
    """Which of the disk's DEKs seals this point."""
    grains: int
    """Entries of the manifest, zeroed grains included."""
    manifest_root: bytes


@dataclass(frozen=True, slots=True)
class SealedVm:
    """The file of a point that holds the VM's configuration, as the record names it."""

    disk: DiskKey
    """Whose DEK sealed it."""
    size: int
    digest: bytes
    """BLAKE3-256 of the file."""


@dataclass(frozen=True, slots=True)
class PointRecord:
    """A committed point. ``record_hash`` is BLAKE3-256 of the record's canonical JSON."""

    tenant: TenantId
    replica: ReplicaId
    number: PointNumber
    sync: SyncId
    kind: SyncKind
    vm_name: str
    snapshot_time: int
    commit_time: int
    consistency: str
    parent: PointNumber | None
    parent_hash: bytes
    disks: tuple[DiskRecord, ...]
    record_hash: bytes
    counted_time: int | None = None
    """Commit time by the clock that nobody sets ahead, where it is another one than ``commit_time``."""
    locked_until: int | None = None
    """Nobody drops the point before this time by that clock."""
    vm: SealedVm | None = None
    """None where the point does not hold the VM's configuration."""

    @property
    def retention_time(self) -> int:
        """What retention counts from."""
        return self.commit_time if self.counted_time is None else self.counted_time

    def disk(self, key: DiskKey) -> DiskRecord | None:
        """The disk with this key, if the point has it."""
        return next((disk for disk in self.disks if disk.spec.key == key), None)


@dataclass(frozen=True, slots=True)
class CommittedPoint:
    """What a commit made: the point's number, its record's hash, bytes that its files take in the store."""

    number: PointNumber
    record_hash: bytes
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class DiskProgress:
    """How far a disk of an open sync is: complete, or all of it durable that was sent below ``next_grain``."""

    disk: DiskKey
    finished: bool
    next_grain: int

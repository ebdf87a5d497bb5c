"""Where things lie in the store: the one place that makes its paths. Names are parsed ids or stand here."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from common.errors import InvalidInputError
from common.ids import DiskKey, PointNumber, ReplicaId, SyncId, TenantId

Name = TypeVar("Name")

TENANTS = "tenants"
TENANT_FILE = "tenant.json"
REPLICA_FILE = "replica.json"
RECORD_FILE = "point.json"
VM_FILE = "vm.sealed"
POINTS = "points"
STAGING = "staging"
RESUME = "resume"
KEYS_LOCK = "keys.lock"
"""Held by whoever changes the key files of a tenant."""
POINTS_LOCK = "points.lock"
"""Held by whoever makes a point of a tenant's, or shuts the tenant off from it for good."""
ERASE_FILE = "erase.json"
"""While a tenant is being erased: what is to go."""
RETENTION_FILE = "retention.json"
"""Of a tenant and of a replica: what is kept for how long."""
RECORDS = "records"
"""Records of points whose folders are gone."""
DROPPED = "dropped"
"""Notes on points that are no points of their own any more, for as long as they have a folder."""
MERGE = "merge"
"""Folder in which a merge is made ready."""
MERGING = "merging"
"""The same, once it is decided: whoever finds it finishes it."""
TRASH = "trash"
"""What is to be removed."""
READING_LOCK = "reading.lock"
"""Held by all who read a replica's points together; alone by who moves or removes their files."""
RECLAIM_LOCK = "reclaim.lock"
"""Held by whoever merges and removes points of a replica."""
REWRITE = "rewrite"
"""Folder in which a small file is made anew before it replaces the old one."""


def tenant_folder(tenant: TenantId) -> str:
    """All of a tenant."""
    return f"{TENANTS}/{tenant}"


def replicas_folder(tenant: TenantId) -> str:
    """A tenant's replicas."""
    return f"{tenant_folder(tenant)}/replicas"


def replica_folder(tenant: TenantId, replica: ReplicaId) -> str:
    """All of a replica."""
    return f"{replicas_folder(tenant)}/{replica}"


def points_folder(tenant: TenantId, replica: ReplicaId) -> str:
    """A replica's points."""
    return f"{replica_folder(tenant, replica)}/{POINTS}"


def point_folder(tenant: TenantId, replica: ReplicaId, point: PointNumber) -> str:
    """One point."""
    return f"{points_folder(tenant, replica)}/{point_name(point)}"


def point_name(point: PointNumber) -> str:
    """A point's folder name: at least six digits."""
    return f"{point:06d}"


def record_path(tenant: TenantId, replica: ReplicaId, point: PointNumber) -> str:
    """The record of a point whose folder is gone."""
    return f"{replica_folder(tenant, replica)}/{RECORDS}/{point_name(point)}.json"


def absorbed_manifest(disk: DiskKey, point: PointNumber) -> str:
    """In the folder of the point that absorbed ``point``: its sealed manifest of the disk."""
    return f"disk-{disk}-p{point_name(point)}.manifest"


def dropped_folder(tenant: TenantId, replica: ReplicaId) -> str:
    """Notes on a replica's dropped points."""
    return f"{replica_folder(tenant, replica)}/{DROPPED}"


def dropped_file(point: PointNumber) -> str:
    """The note on a dropped point."""
    return f"{point_name(point)}.json"


def staging_folder(tenant: TenantId, replica: ReplicaId) -> str:
    """A replica's syncs under way."""
    return f"{replica_folder(tenant, replica)}/{STAGING}"


def sync_folder(tenant: TenantId, replica: ReplicaId, sync: SyncId) -> str:
    """One sync under way."""
    return f"{staging_folder(tenant, replica)}/{sync}"


def resumes_folder(tenant: TenantId, replica: ReplicaId) -> str:
    """What a replica's syncs under way need to go on after a restart."""
    return f"{replica_folder(tenant, replica)}/{RESUME}"


def resume_folder(tenant: TenantId, replica: ReplicaId, sync: SyncId) -> str:
    """The same of one sync."""
    return f"{resumes_folder(tenant, replica)}/{sync}"


def journal_file(disk: DiskKey) -> str:
    """What of the disk is durable."""
    return f"disk-{disk}.journal"


def disk_file(disk: DiskKey) -> str:
    """The disk's VMDK: the extent itself, or the descriptor where there are several."""
    return f"disk-{disk}.vmdk"


def extent_file(disk: DiskKey, number: int, extents: int) -> str:
    """Extent ``number`` (from 1) of ``extents``."""
    return disk_file(disk) if extents == 1 else f"disk-{disk}-s{number:03d}.vmdk"


def manifest_file(disk: DiskKey) -> str:
    """The disk's sealed manifest."""
    return f"disk-{disk}.manifest"


def digests_file(disk: DiskKey) -> str:
    """Digests of the stored bytes of the disk's files."""
    return f"disk-{disk}.digests"


def of_disk(disk: DiskKey, found: Sequence[str]) -> tuple[str, ...]:
    """Those names of a point's folder that are the disk's."""
    return tuple(name for name in found if name.startswith((f"disk-{disk}.", f"disk-{disk}-")))


def parent_hint(disk: DiskKey, base: PointNumber) -> str:
    """The base point's VMDK, as seen from a point's folder."""
    return f"../{point_name(base)}/{disk_file(disk)}"


def parsed(found: Sequence[str], parse: Callable[[str], Name]) -> Iterator[Name]:
    """Names that parse: whatever else lies there is not ours."""
    for name in found:
        try:
            yield parse(name)
        except InvalidInputError:
            continue

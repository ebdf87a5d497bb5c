"""What a sync said of itself, kept beside its staging folder so that it goes on after a restart. Never part of a point.

It has a record's form, without manifests, and one HMAC per disk under the key of the disk's journal.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from blake3 import blake3

from common.errors import DamagedError, NotFoundError
from common.ids import AgentId, DiskKey, ReplicaId, SyncId, TenantId, parse_agent
from target_appliance.recovery import names, record_file, small_file
from target_appliance.recovery.types import DiskRecord, PointRecord, SyncHeader
from target_appliance.seal.keys import DataKey
from target_appliance.seal.selfcheck import canonical
from target_appliance.store.port import Store

SYNC_FILE: Final = "sync.json"
_NO_ROOT: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class Parked:
    """A sync as it was begun: by which agent, and the record that its point would have."""

    owner: AgentId
    record: PointRecord
    macs: Mapping[DiskKey, bytes]

    @property
    def header(self) -> SyncHeader:
        """What its agent said at the beginning."""
        record = self.record
        disks = tuple(disk.spec for disk in record.disks)
        return SyncHeader(
            record.vm_name, record.kind, disks, record.parent or 0, record.snapshot_time, record.consistency
        )

    @property
    def parent(self) -> tuple[int, bytes] | None:
        """Number and record hash of the point that it was begun on; None for none."""
        return None if self.record.parent is None else (self.record.parent, self.record.parent_hash)

    @property
    def about(self) -> bytes:
        """Digest of all of it, which its journals are bound to."""
        return blake3(self._bytes()).digest()

    def authentic(self, keys: Mapping[DiskKey, DataKey]) -> bool:
        """Whether every disk's key vouches for it."""
        disks = [disk.spec.key for disk in self.record.disks]
        return set(self.macs) == set(disks) and all(
            hmac.compare_digest(self.macs[disk], self._mac(keys[disk])) for disk in disks
        )

    def sealed(self, keys: Mapping[DiskKey, DataKey]) -> "Parked":
        """The same with MACs under ``keys``."""
        return Parked(self.owner, self.record, {disk: self._mac(key) for disk, key in keys.items()})

    def _mac(self, key: DataKey) -> bytes:
        return hmac.digest(key.journal_key(self.record.number), self._bytes(), hashlib.sha256)

    def _bytes(self) -> bytes:
        return canonical({"owner": self.owner, "record": json.loads(record_file.record_bytes(self.record))})


def parked(owner: AgentId, record: PointRecord, keys: Mapping[DiskKey, DataKey]) -> Parked:
    """A sync that begins; what ``record`` cannot know yet is empty."""
    return Parked(owner, record, {}).sealed(keys)


def disk_record(spec: Any, base_point: Any, key: DataKey) -> DiskRecord:
    """A disk of which nothing is known yet."""
    return DiskRecord(spec, base_point, key.epoch, 0, _NO_ROOT)


def write(store: Store, sync: Parked) -> None:
    """Keep it, durable."""
    record = sync.record
    folder = names.resume_folder(record.tenant, record.replica, record.sync)
    store.make_folder(folder)
    members = {
        "owner": sync.owner,
        "record": json.loads(record_file.record_bytes(record)),
        "macs": {str(disk): mac.hex() for disk, mac in sync.macs.items()},
    }
    small_file.write(store, f"{folder}/{SYNC_FILE}", members)
    store.sync_folder(folder)


def read(store: Store, tenant: TenantId, replica: ReplicaId, sync: SyncId) -> Parked:
    """What ``write`` kept; not authenticated yet.

    Raises:
        NotFoundError: nothing, or nothing that can be.
    """
    path = f"{names.resume_folder(tenant, replica, sync)}/{SYNC_FILE}"
    try:
        members: dict[str, Any] = small_file.read(store, path)
        record, macs = record_file.from_members(members)
        owner = parse_agent(members["owner"])
    except (DamagedError, ValueError, KeyError, TypeError) as error:
        raise NotFoundError(f"{path} cannot be read", subject=f"sync {sync}", next_step="begin a new sync") from error
    if (record.tenant, record.replica, record.sync) != (tenant, replica, sync):
        raise NotFoundError(f"{path} is another sync's", subject=f"sync {sync}", next_step="begin a new sync")
    return Parked(owner, record, macs)

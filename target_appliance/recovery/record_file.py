"""A point's record as members of ``point.json``, and what authenticates it.

``record`` is what the point is; its canonical JSON is hashed (the next record names that hash) and carries one
HMAC-SHA256 per disk under a key derived from that disk's DEK.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any, Final

from blake3 import blake3

from common.errors import InvalidInputError
from common.grain import MAX_CAPACITY_BYTES
from common.ids import DiskKey, PointNumber, ReplicaId, TenantId, parse_disk_key, parse_point, parse_sync
from target_appliance.recovery.types import DiskRecord, DiskSpec, PointRecord, SealedVm, SyncKind
from target_appliance.seal.configuration import VM_MOST_BYTES
from target_appliance.seal.keys import DataKey
from target_appliance.seal.selfcheck import canonical
from target_appliance.vmdk.descriptor import ADAPTERS
from target_appliance.vmdk.layout import SECTOR_BYTES

_OPTIONAL_TIMES: Final = ("counted_time", "locked_until")
"""Members that stand only in records that need them."""
_SPEC: Final[dict[str, type]] = {
    "uuid": str,
    "label": str,
    "capacity_bytes": int,
    "backing_path": str,
    "change_id": str,
    "encrypted": bool,
    "controller": str,
    "bus": int,
    "unit": int,
    "adapter": str,
}


def _body(record: PointRecord) -> dict[str, Any]:
    times = {name: getattr(record, name) for name in _OPTIONAL_TIMES}
    vm = record.vm
    told = {} if vm is None else {"vm": {"disk": vm.disk, "size": vm.size, "digest": vm.digest.hex()}}
    return {
        **told,
        **{name: time for name, time in times.items() if time is not None},
        "tenant": record.tenant,
        "replica": record.replica,
        "point": record.number,
        "sync": record.sync,
        "kind": record.kind.value,
        "vm_name": record.vm_name,
        "snapshot_time": record.snapshot_time,
        "commit_time": record.commit_time,
        "consistency": record.consistency,
        "parent": record.parent,
        "parent_hash": record.parent_hash.hex(),
        "disks": [
            {
                "key": disk.spec.key,
                "kind": disk.spec.kind.value,
                **{name: getattr(disk.spec, name) for name in _SPEC},
                "base_point": disk.base_point,
                "key_epoch": disk.key_epoch,
                "grains": disk.grains,
                "manifest_root": disk.manifest_root.hex(),
            }
            for disk in record.disks
        ],
    }


def record_bytes(record: PointRecord) -> bytes:
    """What is hashed and authenticated."""
    return canonical(_body(record))


def record_hash(record: PointRecord) -> bytes:
    """BLAKE3-256 of the record, whatever its ``record_hash`` says."""
    return blake3(record_bytes(record)).digest()


def mac(record: PointRecord, key: DataKey) -> bytes:
    """The record's HMAC-SHA256 for the disk of ``key``."""
    return hmac.digest(key.record_key(record.number), record_bytes(record), hashlib.sha256)


def to_members(record: PointRecord, keys: Mapping[DiskKey, DataKey]) -> dict[str, Any]:
    """Members of ``point.json``; ``keys`` holds each disk's DEK."""
    macs = {str(disk.spec.key): mac(record, keys[disk.spec.key]).hex() for disk in record.disks}
    return {"record": _body(record), "macs": macs}


def from_members(members: dict[str, Any]) -> tuple[PointRecord, dict[DiskKey, bytes]]:
    """The record and its MACs by disk.

    Raises:
        ValueError: the members are not those of a point.
    """
    try:
        body = members["record"]
        record = PointRecord(
            tenant=TenantId(str(body["tenant"])),
            replica=ReplicaId(str(body["replica"])),
            number=parse_point(body["point"]),
            sync=parse_sync(body["sync"]),
            kind=SyncKind(body["kind"]),
            vm_name=str(body["vm_name"]),
            snapshot_time=int(body["snapshot_time"]),
            commit_time=int(body["commit_time"]),
            consistency=str(body["consistency"]),
            parent=None if body["parent"] is None else parse_point(body["parent"]),
            parent_hash=bytes.fromhex(body["parent_hash"]),
            disks=tuple(_disk(disk) for disk in body["disks"]),
            record_hash=blake3(canonical(body)).digest(),
            **{name: int(body[name]) for name in _OPTIONAL_TIMES if name in body},
            vm=_vm(body["vm"]) if "vm" in body else None,
        )
        macs = {DiskKey(int(disk)): bytes.fromhex(value) for disk, value in members["macs"].items()}
    except (KeyError, TypeError, AttributeError, OverflowError, InvalidInputError) as error:
        raise ValueError(f"a member is missing or not of its kind: {error}") from None
    # One form only: what is not written back the same way is not what was authenticated.
    if canonical(body) != record_bytes(record):
        raise ValueError("it holds members that no release writes")
    return record, macs


def _vm(vm: dict[str, Any]) -> SealedVm:
    digest = bytes.fromhex(vm["digest"])
    if type(vm["size"]) is not int or not 0 <= vm["size"] <= VM_MOST_BYTES or len(digest) != 32:
        raise ValueError("the VM's configuration has a size or digest that cannot be")
    return SealedVm(parse_disk_key(vm["disk"]), vm["size"], digest)


def _disk(disk: dict[str, Any]) -> DiskRecord:
    for name, kind in _SPEC.items():
        if type(disk[name]) is not kind:
            raise TypeError(name)
    capacity = disk["capacity_bytes"]
    if not 0 < capacity <= MAX_CAPACITY_BYTES or capacity % SECTOR_BYTES or disk["adapter"] not in ADAPTERS:
        raise ValueError("a disk has a capacity or adapter that cannot be")
    spec = DiskSpec(
        key=parse_disk_key(disk["key"]),
        kind=SyncKind(disk["kind"]),
        **{name: disk[name] for name in _SPEC},
    )
    base = disk["base_point"]
    return DiskRecord(
        spec=spec,
        base_point=None if base is None else PointNumber(parse_point(base)),
        key_epoch=int(disk["key_epoch"]),
        grains=int(disk["grains"]),
        manifest_root=bytes.fromhex(disk["manifest_root"]),
    )

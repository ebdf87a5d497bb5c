"""Whether a sync may begin, and on what its disks stand. Pure."""

from collections.abc import Iterable, Mapping

from common.errors import InvalidInputError, PreconditionError
from common.grain import MAX_CAPACITY_BYTES
from common.ids import DiskKey, PointNumber
from target_appliance.recovery.types import DiskRecord, DiskSpec, PointRecord, SyncHeader, SyncKind
from target_appliance.vmdk.descriptor import ADAPTERS
from target_appliance.vmdk.layout import SECTOR_BYTES

_MOST_DISKS = 256


def check_header(header: SyncHeader) -> None:
    """Return if the header describes a VM that can be stored.

    Raises:
        InvalidInputError: it does not.
    """
    keys = [disk.key for disk in header.disks]
    if not keys or len(keys) > _MOST_DISKS or len(set(keys)) != len(keys):
        raise InvalidInputError(
            f"a sync has 1 to {_MOST_DISKS} different disks, this one names {len(keys)}",
            subject="sync",
            next_step="name each disk once",
        )
    for disk in header.disks:
        _check_disk(disk)


def _check_disk(disk: DiskSpec) -> None:
    if not 0 < disk.capacity_bytes <= MAX_CAPACITY_BYTES or disk.capacity_bytes % SECTOR_BYTES:
        raise InvalidInputError(
            f"disk {disk.key} cannot have {disk.capacity_bytes} bytes",
            subject=f"disk {disk.key}",
            next_step="give a capacity of whole sectors, at most 62 TiB",
        )
    if disk.adapter not in ADAPTERS:
        raise InvalidInputError(
            f"disk {disk.key} has the unknown adapter {disk.adapter[:40]!a}",
            subject=f"disk {disk.key}",
            next_step=f"use one of {', '.join(ADAPTERS)}",
        )


def check_base(header: SyncHeader, newest: PointRecord | None) -> None:
    """Return if the sync was planned on the newest point.

    Raises:
        PreconditionError: it was not.
    """
    number = 0 if newest is None else newest.number
    if header.base_point != number:
        raise PreconditionError(
            f"the sync was planned on point {header.base_point}, the newest is {number}",
            subject=f"vm {header.vm_name[:80]!a}",
            next_step="sync again: the plan will be made anew",
        )


def rotated(newest: PointRecord, epochs: Mapping[DiskKey, int]) -> tuple[DiskKey, ...]:
    """Disks of the newest point that have a newer DEK than it was sealed with; ``epochs`` holds the newest of each."""
    return tuple(disk.spec.key for disk in newest.disks if epochs.get(disk.spec.key, 0) > disk.key_epoch)


def check_epochs(header: SyncHeader, newest: PointRecord, epochs: Mapping[DiskKey, int]) -> None:
    """Return if no disk would stand on a point that was sealed with another DEK.

    Raises:
        PreconditionError: one would.
    """
    changed = rotated(newest, epochs)
    for disk in header.disks:
        if disk.key in changed and disk.kind is not SyncKind.FULL:
            raise PreconditionError(
                f"the data key of disk {disk.key} was rotated, so its next point begins a chain",
                subject=f"disk {disk.key}",
                next_step="send the disk in full; an agent of this release does it by itself",
            )


def bases(header: SyncHeader, newest_first: Iterable[PointRecord]) -> dict[DiskKey, PointNumber | None]:
    """For each disk the point it stands on: the newest one that has it; none in a full, or when there is none.

    Args:
        header: the sync.
        newest_first: the replica's points, read only as far as needed.

    Raises:
        PreconditionError: a delta has nothing to stand on, or its disk shrank.
    """
    wanted = {disk.key: disk for disk in header.disks if disk.kind is not SyncKind.FULL}
    found: dict[DiskKey, PointNumber | None] = {disk.key: None for disk in header.disks}
    records = iter(newest_first)
    while wanted and (record := next(records, None)) is not None:
        for held in record.disks:
            disk = wanted.pop(held.spec.key, None)
            if disk is not None:
                _refuse_shrunk(disk, held)
                found[disk.key] = record.number
    for disk in wanted.values():
        if disk.kind is SyncKind.DELTA:
            raise PreconditionError(
                f"no point holds disk {disk.key}, a delta has nothing to stand on",
                subject=f"disk {disk.key}",
                next_step="send the disk in full",
            )
    return found


def _refuse_shrunk(disk: DiskSpec, base: DiskRecord) -> None:
    if base.spec.capacity_bytes > disk.capacity_bytes:
        raise PreconditionError(
            f"disk {disk.key} shrank from {base.spec.capacity_bytes} to {disk.capacity_bytes} bytes",
            subject=f"disk {disk.key}",
            next_step="send the disk in full",
        )

"""Points as the store holds them: listed, read, and checked against keys."""

import hmac
import re
from collections.abc import Iterator
from contextlib import suppress

from common.errors import DamagedError, NotFoundError, PreconditionError
from common.ids import DiskKey, PointNumber, ReplicaId, TenantId, parse_replica, parse_tenant
from target_appliance.recovery import names, record_file, small_file
from target_appliance.recovery.types import PointRecord
from target_appliance.seal.keys import DataKey
from target_appliance.store.port import Store

_POINT_NAME = re.compile(r"(?!0{6})[0-9]{6}|[1-9][0-9]{6,9}")
_NUMBERED_FILE = re.compile(rf"({_POINT_NAME.pattern})\.json")


def folders(store: Store, tenant: TenantId, replica: ReplicaId) -> tuple[PointNumber, ...]:
    """Numbers of the points that have a folder, dropped ones included, rising."""
    found = store.names(names.points_folder(tenant, replica))
    return tuple(sorted(PointNumber(int(name)) for name in found if _POINT_NAME.fullmatch(name)))


def numbers(store: Store, tenant: TenantId, replica: ReplicaId) -> tuple[PointNumber, ...]:
    """Numbers of the committed points that are kept, rising."""
    gone = dropped(store, tenant, replica)
    return tuple(number for number in folders(store, tenant, replica) if number not in gone)


def dropped(store: Store, tenant: TenantId, replica: ReplicaId) -> frozenset[PointNumber]:
    """Numbers of the points that were dropped and still have a folder, or had one a moment ago."""
    return frozenset(_numbered(store, names.dropped_folder(tenant, replica)))


def recorded(store: Store, tenant: TenantId, replica: ReplicaId) -> tuple[PointNumber, ...]:
    """Numbers of dropped points of which only the record is left, rising."""
    return _numbered(store, f"{names.replica_folder(tenant, replica)}/{names.RECORDS}")


def stored_bytes(store: Store, tenant: TenantId, replica: ReplicaId, point: PointNumber) -> int:
    """Bytes that a kept point costs: its files, and those of the dropped points right below it."""
    gone = dropped(store, tenant, replica)
    total = folder_bytes(store, names.point_folder(tenant, replica, point))
    for lower in reversed([number for number in folders(store, tenant, replica) if number < point]):
        if lower not in gone:
            break
        total += folder_bytes(store, names.point_folder(tenant, replica, lower))
    return total


def every_stored_bytes(store: Store, tenant: TenantId, replica: ReplicaId) -> dict[PointNumber, int]:
    """The same of every kept point, in one pass."""
    gone = dropped(store, tenant, replica)
    found: dict[PointNumber, int] = {}
    below = 0
    for number in folders(store, tenant, replica):
        below += folder_bytes(store, names.point_folder(tenant, replica, number))
        if number not in gone:
            found[number], below = below, 0
    return found


def folder_bytes(store: Store, folder: str) -> int:
    """Bytes that the files of a folder take; of one that is being replaced, nothing."""
    total = 0
    for name in store.names(folder):
        try:
            with store.open(f"{folder}/{name}") as file:
                total += file.size
        except NotFoundError:
            continue
    return total


def read_kept(store: Store, tenant: TenantId, replica: ReplicaId, point: PointNumber) -> PointRecord:
    """The record of a point that is not dropped. Raises NotFoundError, DamagedError."""
    # A point that is there is asked for by itself: whoever reads all of them would list all for each.
    there = store.names(names.point_folder(tenant, replica, point)) or point in folders(store, tenant, replica)
    if not there or point in dropped(store, tenant, replica):
        raise no_point(replica, point)
    return read_point(store, tenant, replica, point)[0]


def newest(store: Store, tenant: TenantId, replica: ReplicaId) -> PointRecord | None:
    """The newest point, which is never dropped. Raises DamagedError."""
    found = folders(store, tenant, replica)
    return read_kept(store, tenant, replica, found[-1]) if found else None


def newest_first(store: Store, tenant: TenantId, replica: ReplicaId) -> Iterator[PointRecord]:
    """The kept points, falling, each read when it is asked for. Raises DamagedError."""
    for number in reversed(numbers(store, tenant, replica)):
        yield read_point(store, tenant, replica, number)[0]


def no_point(replica: ReplicaId, point: PointNumber) -> NotFoundError:
    """There is no such point."""
    return NotFoundError(
        f"replica {replica} has no point {point}",
        subject=f"point {point}",
        next_step="list them with target-appliance points",
    )


def newest_time(store: Store) -> int | None:
    """The newest time that retention counts from, of all replicas' newest points that can be read; None for none."""
    found = []
    for tenant in names.parsed(store.names(names.TENANTS), parse_tenant):
        for replica in names.parsed(store.names(names.replicas_folder(tenant)), parse_replica):
            for point in numbers(store, tenant, replica)[-1:]:
                with suppress(DamagedError, PreconditionError):
                    found.append(read_point(store, tenant, replica, point)[0].retention_time)
    return max(found, default=None)


def read_point(
    store: Store, tenant: TenantId, replica: ReplicaId, point: PointNumber
) -> tuple[PointRecord, dict[DiskKey, bytes]]:
    """A point's record, which agrees with itself and its place, and its MACs by disk, which are not checked here.

    A dropped point's is read as well, also when nothing else is left of it.

    Raises:
        NotFoundError: there is no such point.
        DamagedError: the record is not what was written, or stands where another point belongs.
    """
    path = f"{names.point_folder(tenant, replica, point)}/{names.RECORD_FILE}"
    try:
        members = small_file.read(store, path)
    except NotFoundError:
        if point in folders(store, tenant, replica):
            raise small_file.damaged(path, "it is missing") from None
        path = names.record_path(tenant, replica, point)
        try:
            members = small_file.read(store, path)
        except NotFoundError:
            raise no_point(replica, point) from None
    try:
        record, macs = record_file.from_members(members)
    except ValueError as error:
        raise small_file.damaged(path, str(error)) from None
    if (record.tenant, record.replica, record.number) != (tenant, replica, point):
        raise small_file.damaged(path, "it is another point's record")
    return record, macs


def _numbered(store: Store, folder: str) -> tuple[PointNumber, ...]:
    """Numbers that a folder has a JSON file of, rising."""
    named = (_NUMBERED_FILE.fullmatch(name) for name in store.names(folder))
    return tuple(sorted(PointNumber(int(match[1])) for match in named if match))


def check_mac(record: PointRecord, macs: dict[DiskKey, bytes], key: DataKey) -> None:
    """Return if the disk of ``key`` vouches for the record.

    Raises:
        DamagedError: it does not.
    """
    if not hmac.compare_digest(macs.get(key.disk, b""), record_file.mac(record, key)):
        raise DamagedError(
            f"the record of point {record.number} is not authentic for disk {key.disk}",
            subject=f"point {record.number} of replica {record.replica}",
            next_step="do not trust this point; restore its point.json from another copy of the store",
        )

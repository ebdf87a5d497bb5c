"""Verify a replica: is everything that was committed still there, byte for byte, and made with our keys?

Without a key every stored byte is compared with its digest, and everything in the clear with everything else. With the
key every MAC, manifest root, tag and plaintext digest is checked as well.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack

from common.errors import DamagedError, KeyNotUsableError, NotFoundError, PreconditionError, StoreError
from common.ids import DiskKey, PointNumber, ReplicaId, TenantId
from target_appliance.recovery import names, points
from target_appliance.recovery.findings import Collector, Finding, Kind, Place, Progress, Report
from target_appliance.recovery.inventory import Inventory
from target_appliance.recovery.keyring import Keyring
from target_appliance.recovery.reading import reading
from target_appliance.recovery.types import NO_PARENT_HASH, PointRecord
from target_appliance.recovery.verify_sealed import SealedDisk
from target_appliance.recovery.verify_stored import StoredPoint, check_record, store_watched
from target_appliance.seal.keys import DataKey
from target_appliance.store.port import Store


def verify(
    store: Store,
    keyring: Keyring,
    tenant: TenantId,
    replica: ReplicaId,
    *,
    with_key: bool,
    point: PointNumber | None,
    progress: Progress,
    committed: Collection[PointNumber] = (),
) -> Report:
    """Verify one point with all it stands on, or every point of a replica.

    Args:
        store: where it lies.
        keyring: asked for the DEKs, only ``with_key``.
        tenant: owner.
        replica: which.
        with_key: whether to open what is sealed.
        point: None for every point.
        progress: see Progress.
        committed: points that somebody else knows of, as the catalog does: the newest can be missing without a trace
            in the store.

    Raises:
        NotFoundError: there is no such replica or point, nor should there be.
        KeyNotUsableError, KmsUnavailableError: ``with_key``, and the key cannot be had.
    """
    with ExitStack() as life:
        if names.REPLICA_FILE in store.names(names.replica_folder(tenant, replica)):
            life.enter_context(reading(store, tenant, replica))
        return _verify(store, keyring, tenant, replica, with_key, point, progress, committed)


def _verify(  # noqa: PLR0917  verify's, which names them
    store: Store,
    keyring: Keyring,
    tenant: TenantId,
    replica: ReplicaId,
    with_key: bool,
    point: PointNumber | None,
    progress: Progress,
    committed: Collection[PointNumber],
) -> Report:
    kept = points.numbers(store, tenant, replica)
    there = points.folders(store, tenant, replica)
    recorded = set(points.recorded(store, tenant, replica)).difference(there)
    known = {*kept, *set(committed).difference(recorded, there)}
    if not known or (point is not None and point not in known):
        raise NotFoundError(
            f"replica {replica} has no points" if point is None else f"replica {replica} has no point {point}",
            subject=f"replica {replica}",
            next_step="list them with target-appliance points",
        )
    collector = Collector(replica, progress)
    wanted = tuple(sorted({*there, *recorded})) if point is None else _standing_on(store, tenant, replica, point)
    lost = sorted(known.difference(there)) if point is None else []
    for number in lost:
        _missing(collector, number, "it was committed")
    _check_key_files(store, keyring, tenant, replica, collector)
    if point is None:
        _check_strays(store, tenant, replica, collector)
    records = {number: check_record(store, tenant, replica, number, number in recorded, collector) for number in wanted}
    found = {number: record for number, record in records.items() if record is not None}
    have = Inventory(found, frozenset(there), frozenset(there).difference(kept))
    for number in wanted:
        if number in have.folders:
            StoredPoint(store, tenant, replica, number, collector, have).check()
    _check_links(found, wanted, {*there, *recorded, *lost}, collector)
    if with_key:
        _check_sealed(store, keyring, have, collector)
    return Report(
        replica,
        with_key,
        tuple(number for number in wanted if number in kept),
        collector.files,
        collector.bytes,
        collector.grains,
        tuple(_with_affected(finding, found, kept if point is None else (point,)) for finding in collector.found),
    )


def _standing_on(store: Store, tenant: TenantId, replica: ReplicaId, point: PointNumber) -> tuple[PointNumber, ...]:
    """The point and all points below it that its disks stand on; as far as the records can be read."""
    found: set[PointNumber] = set()
    waiting = {point}
    while waiting:
        number = waiting.pop()
        found.add(number)
        try:
            record, _ = points.read_point(store, tenant, replica, number)
        except (NotFoundError, DamagedError, PreconditionError, StoreError):
            # A finding of its own when the point is looked at.
            continue
        waiting |= {disk.base_point for disk in record.disks if disk.base_point is not None} - found
    return tuple(sorted(found))


def _check_key_files(
    store: Store, keyring: Keyring, tenant: TenantId, replica: ReplicaId, collector: Collector
) -> None:
    """tenant.json and replica.json, as far as they can be told without a key."""
    _check_key_file(
        store, Place(collector, names.TENANT_FILE), names.tenant_folder(tenant), lambda: keyring.keks.known_id(tenant)
    )
    folder = names.replica_folder(tenant, replica)
    _check_key_file(store, Place(collector, names.REPLICA_FILE), folder, lambda: keyring.epochs(tenant, replica))


def _check_key_file(store: Store, place: Place, folder: str, check: Callable[[], object]) -> None:
    place.collector.files += 1
    with store_watched(place):
        with store.open(f"{folder}/{place.file}") as file:
            size = file.size
        place.collector.read(size)
        try:
            check()
        except (DamagedError, PreconditionError) as error:
            place.add(Kind.CORRUPT, error.message, (0, size))


def _check_strays(store: Store, tenant: TenantId, replica: ReplicaId, collector: Collector) -> None:
    """What lies in the replica's folders and is not ours."""
    known = {names.REPLICA_FILE, names.REWRITE, names.POINTS, names.STAGING, names.RESUME, names.RECORDS}
    known.add(names.RETENTION_FILE)
    known |= {names.DROPPED, names.MERGE, names.MERGING, names.TRASH, names.READING_LOCK, names.RECLAIM_LOCK}
    for name in store.names(names.replica_folder(tenant, replica)):
        if name not in known:
            Place(collector, name).add(Kind.EXTRA, "nothing of the appliance's is called so")
    numbered = {names.point_name(number) for number in points.folders(store, tenant, replica)}
    for name in store.names(names.points_folder(tenant, replica)):
        if name not in numbered:
            Place(collector, f"{names.POINTS}/{name}").add(Kind.EXTRA, "no point is called so")
    notes = {names.dropped_file(number) for number in points.folders(store, tenant, replica)}
    for name in store.names(names.dropped_folder(tenant, replica)):
        if name not in notes and name != names.REWRITE:
            Place(collector, f"{names.DROPPED}/{name}").add(Kind.EXTRA, "it is no note on a point that is there")


def _check_links(
    records: Mapping[PointNumber, PointRecord],
    wanted: Sequence[PointNumber],
    there: Collection[PointNumber],
    collector: Collector,
) -> None:
    """The hash chain of records, and that what a disk stands on exists and has it."""
    for number, record in records.items():
        place = Place(collector, names.RECORD_FILE, number)
        parent = None if record.parent is None else records.get(record.parent)
        if record.parent is None:
            if record.parent_hash != NO_PARENT_HASH:
                place.add(Kind.FORGED, "it names a parent's hash, but no parent")
        elif record.parent >= number or (parent is not None and parent.record_hash != record.parent_hash):
            place.add(Kind.FORGED, f"its parent, point {record.parent}, is another one than the one it was made on")
        elif record.parent not in there:
            _missing(collector, record.parent, f"point {number} names it as its parent")
        for disk in record.disks:
            base = disk.base_point
            if base is None or base not in wanted:
                continue
            held = records.get(base)
            if base >= number or (held is not None and held.disk(disk.spec.key) is None):
                place.add(Kind.FORGED, f"disk {disk.spec.key} stands on point {base}, which does not have it")


def _missing(collector: Collector, point: PointNumber, why: str) -> None:
    Place(collector, names.point_name(point), point).add(Kind.MISSING, f"the point is not in the store, {why}")


def _check_sealed(store: Store, keyring: Keyring, have: Inventory, collector: Collector) -> None:
    keys: dict[tuple[DiskKey, int], DataKey | None] = {}
    for number, record in have.records.items():
        if number not in have.folders:
            continue
        for disk in record.disks:
            if (number, disk.spec.key) not in have.needed:
                continue
            which = (disk.spec.key, disk.key_epoch)
            if which not in keys:
                keys[which] = _key(keyring, record, which, collector)
            key = keys[which]
            if key is not None:
                absorbed = [have.records[one] for one in have.absorbed(number, disk.spec.key) if one in have.records]
                SealedDisk(store, record, disk, key, collector, absorbed).check()


def _key(keyring: Keyring, record: PointRecord, which: tuple[DiskKey, int], collector: Collector) -> DataKey | None:
    """The DEK, or None and a finding when its wrapped form is not what it was."""
    place = Place(collector, names.REPLICA_FILE, None, which[0])
    with store_watched(place):
        try:
            if which not in keyring.epochs(record.tenant, record.replica):
                place.add(Kind.MISSING, f"it lacks the wrapped key of the disk, epoch {which[1]}")
                return None
            return keyring.open(record.tenant, record.replica, *which)
        except DamagedError:
            # A finding of the file itself already.
            return None
        except KeyNotUsableError as error:
            if not keyring.may_unwrap(record.tenant, record.replica, *which):
                raise
            place.add(Kind.FORGED, error.message)
    return None


def _with_affected(
    finding: Finding, records: Mapping[PointNumber, PointRecord], kept: Sequence[PointNumber]
) -> Finding:
    """The finding with the points that cannot be trusted because of it."""
    if finding.kind is Kind.EXTRA:
        return finding
    if finding.point is None:
        return dataclasses.replace(finding, affects=tuple(kept))
    affected = {finding.point}
    for number in sorted(records):
        for disk in records[number].disks:
            if disk.base_point in affected and finding.disk in (None, disk.spec.key):
                affected.add(number)
    return dataclasses.replace(finding, affects=tuple(sorted(affected & set(kept))))

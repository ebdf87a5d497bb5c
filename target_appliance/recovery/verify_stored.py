"""Stored bytes against their digests, without any key: every byte of every file of a point."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from blake3 import blake3

from common.errors import DamagedError, NotFoundError, PreconditionError, StoreError
from common.grain import DIGEST_BYTES
from common.ids import DiskKey, PointNumber, ReplicaId, TenantId
from target_appliance.recovery import names, points, small_file
from target_appliance.recovery.describe import sealed_descriptor
from target_appliance.recovery.digests import CHUNK_BYTES, DigestList, DigestListError, ListedFile
from target_appliance.recovery.findings import Collector, Kind, Place
from target_appliance.recovery.inventory import Inventory
from target_appliance.recovery.types import DiskRecord, PointRecord, SealedVm
from target_appliance.store.port import ReadFile, Store
from target_appliance.vmdk.layout import SECTOR_BYTES, extent_capacities

_FILE_NAME = re.compile(r"disk-[0-9]{1,10}(-s[0-9]{3}|-p[0-9]{6,10})?\.(vmdk|manifest)")
_LIST_NAME = re.compile(r"disk-([0-9]{1,10})\.digests")


@contextmanager
def store_watched(place: Place) -> Iterator[None]:
    """Turn a missing file and a failing store into findings."""
    try:
        yield
    except NotFoundError:
        place.add(Kind.MISSING, "it is not in the store")
    except StoreError as error:
        place.add(Kind.UNREACHABLE, error.message)


def check_record(  # noqa: PLR0917  all that says where it is
    store: Store,
    tenant: TenantId,
    replica: ReplicaId,
    point: PointNumber,
    alone: bool,
    collector: Collector,
) -> PointRecord | None:
    """Check a point's record; returns it if it can be believed so far."""
    path = f"{names.point_folder(tenant, replica, point)}/{names.RECORD_FILE}"
    name = names.RECORD_FILE
    if alone:
        path = names.record_path(tenant, replica, point)
        name = path.removeprefix(f"{names.replica_folder(tenant, replica)}/")
    place = Place(collector, name, point)
    collector.files += 1
    with store_watched(place):
        with store.open(path) as file:
            size = file.size
        collector.read(size)
        try:
            return points.read_point(store, tenant, replica, point)[0]
        except (DamagedError, PreconditionError) as error:
            place.add(Kind.CORRUPT, error.message, (0, size))
    return None


class StoredPoint:
    """Checks one point's folder, but for its record."""

    def __init__(  # noqa: PLR0917  all that says where it is
        self,
        store: Store,
        tenant: TenantId,
        replica: ReplicaId,
        point: PointNumber,
        collector: Collector,
        have: Inventory,
    ) -> None:
        self._store = store
        self._tenant = tenant
        self._replica = replica
        self._point = point
        self._collector = collector
        self._have = have
        self._folder = names.point_folder(tenant, replica, point)

    def check(self) -> None:
        """Check everything."""
        record = self._have.records.get(self._point)
        here = Place(self._collector, ".", self._point)
        with store_watched(here):
            present = self._store.names(self._folder)
            expected = {names.RECORD_FILE}
            if self._point in self._have.dropped:
                self._check_note()
            if record is not None:
                for disk in record.disks:
                    expected.update(self._check_disk(disk))
                if record.vm is not None:
                    expected.add(names.VM_FILE)
                    self._check_vm(record.vm)
                for name in present:
                    if name not in expected:
                        Place(self._collector, name, self._point).add(Kind.EXTRA, "no commit wrote it")
            else:
                # The record names the disks; without it their digest lists do.
                for name in present:
                    key = _disk_of_list(name)
                    if key is not None:
                        self._check_list(key, None)

    def _check_note(self) -> None:
        """What says that the point was dropped."""
        path = f"{names.dropped_folder(self._tenant, self._replica)}/{names.dropped_file(self._point)}"
        place = Place(self._collector, names.dropped_file(self._point), self._point)
        self._collector.files += 1
        with store_watched(place):
            with self._store.open(path) as file:
                size = file.size
            self._collector.read(size)
            try:
                small_file.read(self._store, path)
            except (DamagedError, PreconditionError) as error:
                place.add(Kind.CORRUPT, error.message, (0, size))

    def _check_vm(self, vm: SealedVm) -> None:
        place = Place(self._collector, names.VM_FILE, self._point)
        self._collector.files += 1
        with store_watched(place), self._store.open(f"{self._folder}/{place.file}") as file:
            data = file.read_at(0, min(file.size, vm.size))
            self._collector.read(len(data))
            if file.size != vm.size or blake3(data).digest() != vm.digest:
                place.add(Kind.CORRUPT, "stored bytes are not those committed", (0, max(file.size, vm.size)))

    def _check_disk(self, disk: DiskRecord) -> set[str]:
        """Check a disk's files; returns their names."""
        key = disk.spec.key
        count = len(extent_capacities(disk.spec.capacity_bytes))
        expected = {names.extent_file(key, number, count) for number in range(1, count + 1)}
        expected |= {names.disk_file(key), names.manifest_file(key)}
        if (self._point, key) not in self._have.needed:
            # Of a dropped point that is only kept for another disk; what this one stood on may be gone.
            return {*expected, *self._check_unneeded(key)}
        expected |= {names.absorbed_manifest(key, point) for point in self._have.absorbed(self._point, key)}
        if self._check_list(key, expected):
            self._check_descriptor(disk, count)
        return expected | {names.digests_file(key)}

    def _check_unneeded(self, key: DiskKey) -> set[str]:
        """Nobody will read it: only what belongs to it is told, so that it is not taken for a stray."""
        return set(names.of_disk(key, self._store.names(self._folder)))

    def _check_list(self, key: DiskKey, expected: set[str] | None) -> bool:
        """Check the files of a disk's digest list, which must be ``expected``; False when the list is no use."""
        place = Place(self._collector, names.digests_file(key), self._point, key)
        self._collector.files += 1
        good = False
        with store_watched(place), self._store.open(f"{self._folder}/{place.file}") as file:
            self._collector.read(file.size)
            try:
                listed = DigestList(file, self._replica, key, self._point)
            except DigestListError as error:
                place.add(Kind.CORRUPT, str(error), (0, file.size))
            else:
                good = expected is None or {entry.name for entry in listed.files} == expected
                if not good:
                    place.add(Kind.FORGED, "it lists other files than the record asks for", (0, file.size))
                for entry in listed.files:
                    self._check_file(listed, entry, key)
        return good

    def _check_file(self, listed: DigestList, entry: ListedFile, key: DiskKey) -> None:
        if not _FILE_NAME.fullmatch(entry.name):
            return
        place = Place(self._collector, entry.name, self._point, key)
        self._collector.files += 1
        with store_watched(place), self._store.open(f"{self._folder}/{entry.name}") as file:
            if file.size != entry.size:
                shorter, longer = sorted((file.size, entry.size))
                what = f"it has {file.size} bytes, {entry.size} were committed"
                place.add(Kind.CORRUPT, what, (shorter, longer - shorter))
            self._check_chunks(place, file, listed, entry)

    def _check_chunks(self, place: Place, file: ReadFile, listed: DigestList, entry: ListedFile) -> None:
        for number, expected in enumerate(listed.digests(entry)):
            offset = number * CHUNK_BYTES
            length = min(CHUNK_BYTES, entry.size - offset)
            if self._collector.skips(place.file, offset):
                continue
            self._collector.passed = (place.file, offset)
            try:
                data = file.read_at(offset, length)
            except StoreError as error:
                place.add(Kind.UNREACHABLE, error.message, (offset, length))
                continue
            self._collector.read(len(data))
            if len(data) == length and blake3(data).digest(length=DIGEST_BYTES) != expected:
                place.add(Kind.CORRUPT, "stored bytes are not those committed", (offset, length))

    def _check_descriptor(self, disk: DiskRecord, extents: int) -> None:
        """The descriptor follows from the record, so one that was altered together with its digest shows."""
        place = Place(self._collector, names.disk_file(disk.spec.key), self._point, disk.spec.key)
        descriptor = sealed_descriptor(disk.spec, self._point, self._have.below(self._point, disk.spec.key))
        offset, expected = (SECTOR_BYTES, descriptor.embedded()) if extents == 1 else (0, descriptor.encode())
        with store_watched(place), self._store.open(f"{self._folder}/{place.file}") as file:
            if file.read_at(offset, len(expected)) != expected:
                place.add(Kind.CORRUPT, "the descriptor is not the record's", (offset, len(expected)))


def _disk_of_list(name: str) -> DiskKey | None:
    found = _LIST_NAME.fullmatch(name)
    return DiskKey(int(found[1])) if found else None

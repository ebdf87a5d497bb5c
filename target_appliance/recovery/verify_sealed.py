"""Sealed content against its keys: MACs, manifests, and every grain's tag and digest, of one disk at one point."""

import heapq
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

from common.errors import DamagedError
from common.grain import ZERO_DIGEST, digest
from common.ids import DiskKey
from target_appliance.recovery import names, points, vm_file
from target_appliance.recovery.chain import EXTENT_GRAINS
from target_appliance.recovery.findings import Collector, Kind, Place
from target_appliance.recovery.ordered import ordered_map
from target_appliance.recovery.types import DiskRecord, PointRecord
from target_appliance.recovery.verify_stored import store_watched
from target_appliance.seal import configuration
from target_appliance.seal.grain import PAYLOAD_MOST_BYTES, GrainOpener, UnsealError
from target_appliance.seal.keys import DataKey
from target_appliance.seal.manifest_reader import ManifestError, ManifestReader
from target_appliance.store.port import Store
from target_appliance.vmdk.layout import ENTRY_ZERO, SECTOR_BYTES, extent_capacities, grain_record_bytes
from target_appliance.vmdk.reader import ExtentReader, LayoutError

_BATCH_GRAINS: Final = 64
_NEVER: Final = 1 << 40
"""Past every grain."""
_NO_RECORD: Final = (_NEVER, b"")
_NO_ENTRY: Final = (_NEVER, 0)

_Wanted = tuple[int, int, bytes]
"""Sector of the record, grain on the disk, digest."""


@dataclass(frozen=True, slots=True)
class _Bad:
    grain: int
    what: str
    offset: int
    length: int


class SealedDisk:
    """Checks one disk of one point with its DEK. A cut or altered part ends with a finding, never with an exception."""

    def __init__(  # noqa: PLR0917  what it is about, and what it is checked with
        self,
        store: Store,
        record: PointRecord,
        disk: DiskRecord,
        key: DataKey,
        collector: Collector,
        absorbed: Sequence[PointRecord] = (),
    ) -> None:
        """``absorbed`` are the points, newest first, whose part of the disk lies in this one's folder."""
        self._store = store
        self._absorbed = absorbed
        self._record = record
        self._disk = disk
        self._key = key
        self._collector = collector
        self._opener = GrainOpener(key)
        self._folder = names.point_folder(record.tenant, record.replica, record.number)

    def check(self) -> None:
        """Check everything."""
        self._check_vm()
        with ExitStack() as life:
            parts = []
            for record in (self._record, *self._absorbed):
                self._check_mac(record)
                parts.append(self._manifest(record, life))
            manifests = [part for part in parts if part is not None]
            if len(manifests) == len(parts):
                try:
                    self._check_extents(manifests)
                except ManifestError:
                    return  # named when its root was looked at

    def _manifest(self, record: PointRecord, life: ExitStack) -> ManifestReader | None:
        """The sealed manifest of the point or of one that it absorbed; None and a finding when it is no use."""
        own = record.number == self._record.number
        name = names.manifest_file(self._disk_key) if own else names.absorbed_manifest(self._disk_key, record.number)
        disk = record.disk(self._disk_key)
        place = self._place(name)
        if disk is None:
            return None  # a finding of the links
        with store_watched(place):
            file = life.enter_context(self._store.open(f"{self._folder}/{name}"))
            try:
                manifest = ManifestReader(file, self._key, record.number, record.sync)
                if manifest.root() != disk.manifest_root or manifest.records != disk.grains:
                    place.add(Kind.FORGED, "its root is not the one in the record", (0, file.size))
            except ManifestError as error:
                place.add(Kind.CORRUPT, str(error), (error.offset, error.length))
            else:
                return manifest
        return None

    @property
    def _disk_key(self) -> DiskKey:
        return self._disk.spec.key

    def _place(self, file: str) -> Place:
        return Place(self._collector, file, self._record.number, self._disk_key)

    def _check_mac(self, record: PointRecord) -> None:
        place = self._place(names.RECORD_FILE)
        with store_watched(place):
            try:
                _, macs = points.read_point(self._store, record.tenant, record.replica, record.number)
                points.check_mac(record, macs, self._key)
            except DamagedError as error:
                place.add(Kind.FORGED, error.message)

    def _check_vm(self) -> None:
        """What is not stored as committed was found without the key; here is what somebody made to fit."""
        vm = self._record.vm
        if vm is None or vm.disk != self._disk_key:
            return
        place = Place(self._collector, names.VM_FILE, self._record.number)
        with store_watched(place):
            content = vm_file.content(self._store, self._folder, vm)
            if content is not None:
                try:
                    configuration.unseal(content, self._key, self._record.number, self._record.sync)
                except configuration.ConfigurationError as error:
                    place.add(Kind.FORGED, str(error), (0, vm.size))

    def _check_extents(self, manifests: Sequence[ManifestReader]) -> None:
        capacities = extent_capacities(self._disk.spec.capacity_bytes)
        for number, capacity in enumerate(capacities):
            place = self._place(names.extent_file(self._disk_key, number + 1, len(capacities)))
            with store_watched(place), self._store.open(f"{self._folder}/{place.file}") as file:
                try:
                    extent = ExtentReader(file, capacity, PAYLOAD_MOST_BYTES)
                    self._check_grains(manifests, extent, number, place)
                except LayoutError as error:
                    place.add(Kind.CORRUPT, str(error), (error.offset, error.length))

    def _check_grains(
        self, manifests: Sequence[ManifestReader], extent: ExtentReader, number: int, place: Place
    ) -> None:
        first = number * EXTENT_GRAINS

        def check(batch: Sequence[_Wanted]) -> list[_Bad]:
            return list(self._bad(extent, batch, first))

        # A piece of its own beside the same file's stored bytes, for passing over what was opened before.
        stage = f"opened {place.file}"
        batches = self._batches(manifests, extent, first, place)
        wanted = (batch for batch in batches if not self._collector.skips(stage, batch[0][0] * SECTOR_BYTES))
        for batch, bad in ordered_map(check, wanted):
            self._collector.grains += len(batch)
            self._collector.passed = (stage, batch[0][0] * SECTOR_BYTES)
            self._collector.pace((batch[-1][0] - batch[0][0] + 1) * SECTOR_BYTES)
            for one in bad:
                place.add(Kind.CORRUPT, one.what, (one.offset, one.length), one.grain)

    def _batches(
        self, manifests: Sequence[ManifestReader], extent: ExtentReader, first: int, place: Place
    ) -> Iterator[list[_Wanted]]:
        """Grains to open, some at a time; what table and manifest disagree about becomes a finding here."""
        records, entries = _folded(manifests, first), extent.entries()
        record, entry = next(records, _NO_RECORD), next(entries, _NO_ENTRY)
        batch: list[_Wanted] = []
        while (grain := min(record[0], first + entry[0])) < _NEVER:
            listed, held = record[0] == grain, first + entry[0] == grain
            if not held:
                place.add(Kind.CORRUPT, "a grain of the manifest is not in the file", grain=grain)
            elif not listed:
                place.add(Kind.CORRUPT, "a grain is in the file, not in the manifest", grain=grain)
            elif entry[1] != ENTRY_ZERO:
                batch.append((entry[1], grain, record[1]))
            elif record[1] != ZERO_DIGEST:
                place.add(Kind.CORRUPT, "a grain is zeros in the file, not in the manifest", grain=grain)
            if listed:
                record = next(records, _NO_RECORD)
            if held:
                entry = next(entries, _NO_ENTRY)
            if len(batch) == _BATCH_GRAINS:
                yield batch
                batch = []
        if batch:
            yield batch

    def _bad(self, extent: ExtentReader, batch: Sequence[_Wanted], first: int) -> Iterator[_Bad]:
        """What is wrong with the grains of a batch; a broken record does not hide the ones behind it."""
        for sector, grain, expected in batch:
            offset, length = sector * SECTOR_BYTES, SECTOR_BYTES
            try:
                (payload,) = extent.payloads([(grain - first, sector)])
                length = grain_record_bytes(len(payload))
                if digest(self._opener.unseal(payload, grain, self._record.number)) != expected:
                    yield _Bad(grain, "it is not the grain that was committed", offset, length)
            except UnsealError as error:
                yield _Bad(grain, str(error), offset, length)
            except LayoutError as error:
                yield _Bad(grain, str(error), error.offset, error.length)


def _folded(manifests: Sequence[ManifestReader], first: int) -> Iterator[tuple[int, bytes]]:
    """Records of several points of one file, newest first: per grain the newest one's."""
    last = -1
    ranked = (_marked(manifest, first, rank) for rank, manifest in enumerate(manifests))
    for grain, _, found in heapq.merge(*ranked):
        if grain != last:
            yield grain, found
        last = grain


def _marked(manifest: ManifestReader, first: int, rank: int) -> Iterator[tuple[int, int, bytes]]:
    return ((grain, rank, found) for grain, found in _records(manifest, first))


def _records(manifest: ManifestReader, first: int) -> Iterator[tuple[int, bytes]]:
    """Grain and digest of the manifest's records within the extent that begins at grain ``first``."""
    stop = first + EXTENT_GRAINS
    grain = manifest.next_grain(first)
    while grain is not None and grain < stop:
        found = manifest.between(grain, min(stop, grain + EXTENT_GRAINS // 64))
        for record in found:
            yield int(record["grain"]), record["digest"].tobytes()
        grain = manifest.next_grain(int(found["grain"][-1]) + 1)

"""One disk of a merge made ready: sealed grains copied as they are into new extents, and a digest list over all files.

No key, and nothing that exists is written to. Every MiB is compared with its digest before anything of it is copied,
so that rot never gets a fresh digest; a file that is moved keeps the digests it had.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from common.ids import DiskKey, PointNumber, ReplicaId, TenantId
from target_appliance.recovery import names
from target_appliance.recovery.checked_file import CheckedFile, Chunks
from target_appliance.recovery.describe import sealed_descriptor
from target_appliance.recovery.digests import DigestedFile, DigestList, DigestListError, DigestListWriter
from target_appliance.recovery.file_pool import FilePool
from target_appliance.recovery.grain_run import RUN_GRAINS
from target_appliance.recovery.inventory import Inventory
from target_appliance.recovery.merge_moves import Moves
from target_appliance.recovery.merge_plan import Sized, Slot
from target_appliance.recovery.small_file import damaged
from target_appliance.recovery.types import DiskRecord
from target_appliance.seal.grain import PAYLOAD_MOST_BYTES
from target_appliance.store.port import Store
from target_appliance.vmdk.layout import (
    ENTRY_HOLE,
    ENTRY_ZERO,
    GRAIN_MARKER,
    GRAIN_SECTORS,
    TABLE_ENTRIES,
    extent_capacities,
    grain_record_bytes,
)
from target_appliance.vmdk.reader import ExtentReader, LayoutError
from target_appliance.vmdk.writer import ExtentWriter

_Listed = dict[str, tuple[int, bytes]]
"""Files of a digest list: their bytes and digests."""


@dataclass(frozen=True)
class Place:
    """Where a merge takes place."""

    store: Store
    tenant: TenantId
    replica: ReplicaId
    have: Inventory
    chunks: Chunks
    pool: FilePool

    def folder(self, point: PointNumber) -> str:
        """A point's folder in the store."""
        return names.point_folder(self.tenant, self.replica, point)


class DiskMerge:
    """A run of a disk becoming one. ``span`` are the first and the last index of ``run`` that do; the last stays.

    Raises:
        DamagedError: here and in ``build``: what is to be merged is not what was written.
        StoreError, StoreFullError, NotFoundError: the store's.
    """

    def __init__(self, place: Place, run: Sized, span: tuple[int, int], moves: Moves) -> None:
        self._place = place
        self._run = run
        self._first, self._top = span
        self._moves = moves
        self._disk: DiskKey = run.disk
        self._points = run.points[span[0] : span[1] + 1]
        self._into = self._points[-1]
        self._listed = {point: self._list(point) for point in self._points}
        self._new: _Listed = {}
        self.written = 0
        """Bytes of new files."""

    def build(self) -> None:
        """Write what is new into ``merge/``, durable, and put into ``moves`` what is to be done with it."""
        spec = self._disk_of(self._into).spec
        count = len(extent_capacities(spec.capacity_bytes))
        below = self._place.have.below(self._points[0], self._disk)
        descriptor = sealed_descriptor(spec, self._into, below)
        for number, slot in enumerate(self._run.slots[:count]):
            name = names.extent_file(self._disk, number + 1, count)
            self._check_holding(number, slot)
            sources = slot.sources(self._first, self._top)
            if sources is None:
                embedded = descriptor.embedded() if count == 1 else None
                self._write(name, partial(self._copy, number=number, slot=slot, descriptor=embedded))
            elif sources and sources[0] != self._top:
                self._take(self._run.points[sources[0]], name, name)
            else:
                self._keep(name)
        if count > 1:
            self._write(names.disk_file(self._disk), lambda file: file.append([descriptor.encode()]))
        self._manifests()
        self._write_list()

    def _check_holding(self, number: int, slot: Slot) -> None:
        """Return if what was planned with holds by bytes that have their digests, too.

        The plan read without digests, and an extent that it takes for an empty one would go unread.
        """
        for index in range(self._first, self._top + 1):
            if not slot.files[index]:
                continue
            extent, path = self._extent(self._run.points[index], number, slot.capacities[index])
            if any(True for _ in extent.tables()) != bool(slot.grains[index]):
                raise damaged(path, "its grain tables are not those that the merge was planned with")

    def _manifests(self) -> None:
        """All points' own sealed manifests, and those that they had absorbed before."""
        own = names.manifest_file(self._disk)
        self._keep(own)
        for absorbed in self._place.have.absorbed(self._into, self._disk):
            self._keep(names.absorbed_manifest(self._disk, absorbed))
        for point in self._points[:-1]:
            self._take(point, own, names.absorbed_manifest(self._disk, point))
            for absorbed in self._place.have.absorbed(point, self._disk):
                name = names.absorbed_manifest(self._disk, absorbed)
                self._take(point, name, name)

    def _keep(self, name: str) -> None:
        self._new[name] = self._entry(self._into, name)

    def _take(self, point: PointNumber, name: str, new_name: str) -> None:
        self._new[new_name] = self._entry(point, name)
        source = f"{names.POINTS}/{names.point_name(point)}/{name}"
        self._moves.files.append((source, f"{names.POINTS}/{names.point_name(self._into)}/{new_name}"))

    def _write(self, name: str, fill: Callable[[DigestedFile], None]) -> None:
        path = self._made(name)
        with DigestedFile(self._place.store.create(path)) as file:
            fill(file)
            file.sync()
            self._new[name] = (file.position, file.digests())
            self.written += file.position
        self._place.store.protect(path)

    def _write_list(self) -> None:
        name = names.digests_file(self._disk)
        path = self._made(name)
        with self._place.store.create(path) as file:
            listed = DigestListWriter(file, self._place.replica, self._disk, self._into)
            for one in sorted(self._new):
                listed.add(one, *self._new[one])
            listed.finish()
            file.sync()
            self.written += file.position
        self._place.store.protect(path)

    def _made(self, name: str) -> str:
        """Where a new file is made; what it will replace is noted."""
        made = f"{names.point_name(self._into)}.{name}"
        point = f"{names.POINTS}/{names.point_name(self._into)}"
        self._moves.files.append((f"{names.MERGING}/{made}", f"{point}/{name}"))
        return f"{names.replica_folder(self._place.tenant, self._place.replica)}/{names.MERGE}/{made}"

    def _copy(self, file: DigestedFile, number: int, slot: Slot, descriptor: bytes | None) -> None:
        """The newest record of every grain, and zeros where the newest says so."""
        writer = ExtentWriter(file, slot.capacities[self._top], descriptor)
        extents = [
            self._extent(self._run.points[index], number, slot.capacities[index])
            for index in range(self._first, self._top + 1)
            if slot.grains[index]
        ]
        for places, records in _newest(extents):
            writer.add_run(places, records)
            writer.flush()
        writer.finish()

    def _extent(self, point: PointNumber, number: int, capacity: int) -> tuple[ExtentReader, str]:
        count = len(extent_capacities(self._disk_of(point).spec.capacity_bytes))
        name = names.extent_file(self._disk, number + 1, count)
        path = f"{self._place.folder(point)}/{name}"
        size, digests = self._entry(point, name)
        file = CheckedFile(self._place.pool.file(path), path, size, digests, self._place.chunks)
        try:
            return ExtentReader(file, capacity, PAYLOAD_MOST_BYTES), path
        except LayoutError as error:
            raise damaged(path, str(error)) from error

    def _entry(self, point: PointNumber, name: str) -> tuple[int, bytes]:
        try:
            return self._listed[point][name]
        except KeyError:
            raise damaged(f"{self._place.folder(point)}/{names.digests_file(self._disk)}", f"it lacks {name}") from None

    def _list(self, point: PointNumber) -> _Listed:
        path = f"{self._place.folder(point)}/{names.digests_file(self._disk)}"
        with self._place.store.open(path) as file:
            try:
                listed = DigestList(file, self._place.replica, self._disk, point)
            except DigestListError as error:
                raise damaged(path, str(error)) from error
            return {one.name: (one.size, b"".join(listed.digests(one))) for one in listed.files}

    def _disk_of(self, point: PointNumber) -> DiskRecord:
        disk = self._place.have.records[point].disk(self._disk)
        if disk is None:
            raise damaged(self._place.folder(point), f"it lacks disk {self._disk}, which another point stands on")
        return disk


def _newest(extents: Sequence[tuple[ExtentReader, str]]) -> Iterator[tuple[list[tuple[int, int]], bytes]]:
    """The records that a merged extent has, some at a time, with their places as ExtentWriter wants them."""
    numbers = sorted({number for extent, _ in extents for number, _ in extent.tables()})
    for number in numbers:
        entries = np.array([_table(extent, path, number) for extent, path in extents], np.int64)
        winner = np.full(TABLE_ENTRIES, -1)
        for index in range(len(extents)):
            winner[entries[index] != ENTRY_HOLE] = index
        (held,) = np.nonzero(winner >= 0)
        for begin in range(0, len(held), RUN_GRAINS):
            some = held[begin : begin + RUN_GRAINS]
            records: dict[int, bytes] = {}
            for index in np.unique(winner[some]):
                extent, path = extents[index]
                mine = [place for place in some if winner[place] == index and entries[index, place] > ENTRY_ZERO]
                wanted = [(number * TABLE_ENTRIES + int(place), int(entries[index, place])) for place in mine]
                records.update(_records(extent, path, wanted))
            grains = [number * TABLE_ENTRIES + int(place) for place in some]
            found = [records.get(grain, b"") for grain in grains]
            yield list(zip(grains, map(len, found), strict=True)), b"".join(found)


def _table(extent: ExtentReader, path: str, number: int) -> tuple[int, ...]:
    try:
        return extent.table(number)
    except LayoutError as error:
        raise damaged(path, str(error)) from error


def _records(extent: ExtentReader, path: str, wanted: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """Grain records as they stand, by grain."""
    try:
        for (grain, _), payload in zip(wanted, extent.payloads(wanted), strict=True):
            record = GRAIN_MARKER.pack(grain * GRAIN_SECTORS, len(payload)) + bytes(payload)
            yield grain, record.ljust(grain_record_bytes(len(payload)), b"\0")
    except LayoutError as error:
        raise damaged(path, str(error)) from error

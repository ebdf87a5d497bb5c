"""A disk at a point: its own sealed grains, and below them those of the points it stands on.

Every read is checked twice: the grain's tag (right key, right place), and its digest against the manifest of the point
that holds it, so that an older sealed grain in a newer one's place shows as well.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import numpy as np

from common.closing import Closing
from common.errors import DamagedError, NotFoundError
from common.grain import GRAIN_BYTES, ZERO_DIGEST, digest, grain_count
from common.ids import DiskKey, PointNumber
from target_appliance.recovery import names, points, small_file
from target_appliance.recovery.file_pool import FilePool
from target_appliance.recovery.keyring import Keyring
from target_appliance.recovery.reading import reading
from target_appliance.recovery.types import DiskRecord, PointRecord
from target_appliance.seal.fold import HOLE, Window, fold, windows
from target_appliance.seal.grain import PAYLOAD_MOST_BYTES, GrainOpener, UnsealError
from target_appliance.seal.keys import DataKey
from target_appliance.seal.manifest_reader import ManifestError, ManifestReader
from target_appliance.store.port import Store
from target_appliance.vmdk.layout import (
    ENTRY_HOLE,
    ENTRY_ZERO,
    EXTENT_MOST_BYTES,
    SECTOR_BYTES,
    extent_capacities,
    grain_record_bytes,
)
from target_appliance.vmdk.reader import ExtentReader, LayoutError

EXTENT_GRAINS = EXTENT_MOST_BYTES // GRAIN_BYTES


@dataclass
class Holder:
    """A point that has a folder, and with it the extents of a disk: its own grains, and those of points it absorbed."""

    record: PointRecord
    disk: DiskRecord
    extents: dict[int, ExtentReader] = field(default_factory=dict)


@dataclass
class Layer:
    """One point's part of a disk. ``holder`` has its files: the point itself, or the one that absorbed it."""

    record: PointRecord
    disk: DiskRecord
    manifest: ManifestReader
    manifest_name: str
    opener: GrainOpener
    holder: Holder


class Chain(Closing):
    """A disk's layers, newest first. ``extent`` may be called from several threads, the manifests may not.

    While it is open, no file of the replica's points is moved or removed.

    Raises:
        NotFoundError: the point is gone.
        BusyError: files are being moved for too long.
        DamagedError: a record or manifest on the way is missing, altered or not authentic.
        KeyNotUsableError, KmsUnavailableError: the DEK cannot be had.
    """

    def __init__(self, store: Store, keyring: Keyring, record: PointRecord, disk: DiskKey) -> None:
        self._store = store
        self._keyring = keyring
        self._disk = disk
        self._pool = FilePool(store)
        self._lock = threading.Lock()
        self.layers: list[Layer] = []
        with ExitStack() as undo:
            undo.enter_context(reading(store, record.tenant, record.replica))
            undo.callback(self._pool.close)
            self._folders = frozenset(points.folders(store, record.tenant, record.replica))
            if record.number not in self._folders:
                raise points.no_point(record.replica, record.number)
            self._walk(record)
            self._open = undo.pop_all()

    @property
    def capacity_bytes(self) -> int:
        """The disk's size at the newest layer."""
        return self.layers[0].disk.spec.capacity_bytes

    @property
    def manifests(self) -> list[ManifestReader]:
        """The layers' manifests, in their order."""
        return [layer.manifest for layer in self.layers]

    def extent(self, layer: Layer, number: int) -> ExtentReader:
        """Extent ``number``, from 0, of a layer. Raises LayoutError, NotFoundError, StoreError."""
        holder = layer.holder
        with self._lock:
            found = holder.extents.get(number)
            if found is None:
                capacities = extent_capacities(holder.disk.spec.capacity_bytes)
                path = f"{self._folder(holder.record)}/{self.extent_name(layer, number)}"
                found = ExtentReader(self._pool.file(path), capacities[number], PAYLOAD_MOST_BYTES)
                holder.extents[number] = found
            return found

    def extent_name(self, layer: Layer, number: int) -> str:
        """File name of an extent, in the holder's folder."""
        return names.extent_file(self._disk, number + 1, len(extent_capacities(layer.holder.disk.spec.capacity_bytes)))

    def damaged(self, record: PointRecord, file: str, why: str, place: tuple[int, int] | None) -> DamagedError:
        """The error for damage at a place of a point's file; ``place`` is offset and length."""
        where = "" if place is None else f" at bytes {place[0]} to {place[0] + place[1] - 1}"
        return DamagedError(
            f"point {record.number}, disk {self._disk}, file {file}{where} is damaged: {why}",
            subject=f"replica {record.replica}",
            next_step="run target-appliance verify to see what is affected, and restore the file from another copy",
        )

    @contextmanager
    def damage_named(self) -> Iterator[None]:
        """Turn a manifest's error into one that names point, disk and file."""
        try:
            yield
        except ManifestError as error:
            layer = next((layer for layer in self.layers if layer.manifest is error.reader), self.layers[0])
            raise self.damaged(
                layer.holder.record, layer.manifest_name, str(error), (error.offset, error.length)
            ) from error

    def close(self) -> None:
        """Close all files."""
        self._open.close()

    def _walk(self, record: PointRecord) -> None:
        """Fill ``layers`` from the newest down."""
        keys: dict[int, tuple[DataKey, GrainOpener]] = {}
        record, macs = points.read_point(self._store, record.tenant, record.replica, record.number)
        while True:
            self.layers.append(self._layer(record, macs, keys))
            base = self.layers[-1].disk.base_point
            if base is None:
                return
            if base >= record.number:
                raise self.damaged(record, names.RECORD_FILE, "it stands on a later point", None)
            record, macs = self._base(record, base)

    def _layer(
        self, record: PointRecord, macs: dict[DiskKey, bytes], keys: dict[int, tuple[DataKey, GrainOpener]]
    ) -> Layer:
        disk = record.disk(self._disk)
        if disk is None:
            raise self.damaged(record, names.RECORD_FILE, "a later point stands on a disk that it lacks", None)
        if disk.key_epoch not in keys:
            key = self._keyring.open(record.tenant, record.replica, self._disk, disk.key_epoch)
            keys[disk.key_epoch] = (key, GrainOpener(key))
        key, opener = keys[disk.key_epoch]
        points.check_mac(record, macs, key)
        name = names.manifest_file(self._disk)
        if record.number in self._folders:
            holder = Holder(record, disk)
        else:
            holder, name = self.layers[-1].holder, names.absorbed_manifest(self._disk, record.number)
        try:
            manifest = ManifestReader(
                self._pool.file(f"{self._folder(holder.record)}/{name}"), key, record.number, record.sync
            )
        except NotFoundError:
            raise self.damaged(holder.record, name, "it is missing", None) from None
        except ManifestError as error:
            raise self.damaged(holder.record, name, str(error), (error.offset, error.length)) from error
        return Layer(record, disk, manifest, name, opener, holder)

    def _base(self, record: PointRecord, base: PointNumber) -> tuple[PointRecord, dict[DiskKey, bytes]]:
        try:
            return points.read_point(self._store, record.tenant, record.replica, base)
        except NotFoundError:
            raise small_file.damaged(
                f"{names.points_folder(record.tenant, record.replica)}/{base:06d}", "the point is missing"
            ) from None

    @staticmethod
    def _folder(record: PointRecord) -> str:
        return names.point_folder(record.tenant, record.replica, record.number)


class DiskView(Closing):
    """The content of a disk at a point. ``read``, ``fold`` and ``load`` are thread-safe; the view owns ``chain``."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._folding = threading.Lock()
        self.capacity_bytes = chain.capacity_bytes
        self.grains = grain_count(chain.capacity_bytes)
        self.adapter = chain.layers[0].disk.spec.adapter

    def windows(self, most: int, first: int = 0, stop: int | None = None) -> Iterator[Window]:
        """Windows of at most ``most`` grains over all that is held, in order, for ``load``; one thread at a time."""
        with self._chain.damage_named():
            yield from windows(self._chain.manifests, first, self.grains if stop is None else stop, most)

    def read(self, first: int, count: int) -> list[bytes | None]:
        """The grains ``first`` to ``first + count - 1``, 64 KiB each, None for zeros.

        Raises:
            DamagedError: what is stored is not what was committed.
        """
        return self.load(self.fold(first, count)) if count else []

    def fold(self, first: int, count: int) -> Window:
        """Which layer holds each of the grains from ``first``, for ``load``; thread-safe.

        Raises:
            DamagedError: a manifest is not what was committed.
        """
        if not 0 <= first <= first + count <= self.grains:
            raise ValueError("the range lies past the disk's end")
        with self._folding, self._chain.damage_named():
            return fold(self._chain.manifests, first, count)

    def load(self, window: Window) -> list[bytes | None]:
        """The grains of a window. Raises DamagedError."""
        found: list[bytes | None] = [None] * len(window.layers)
        for number in np.unique(window.layers):
            if number != HOLE:
                (places,) = np.nonzero(window.layers == number)
                self._load_layer(self._chain.layers[number], window, places.tolist(), found)
        return found

    def close(self) -> None:
        """Close all files."""
        self._chain.close()

    def _load_layer(self, layer: Layer, window: Window, places: list[int], found: list[bytes | None]) -> None:
        begin = 0
        while begin < len(places):
            number = (window.first + places[begin]) // EXTENT_GRAINS
            stop = begin
            while stop < len(places) and (window.first + places[stop]) // EXTENT_GRAINS == number:
                stop += 1
            self._load_extent(layer, number, window, places[begin:stop], found)
            begin = stop

    def _load_extent(
        self, layer: Layer, number: int, window: Window, places: Sequence[int], found: list[bytes | None]
    ) -> None:
        chain, first = self._chain, window.first - number * EXTENT_GRAINS
        name = chain.extent_name(layer, number)
        try:
            extent = chain.extent(layer, number)
            wanted = []
            for place in places:
                entry = extent.entry(place + first)
                expected = window.digests[place].tobytes()
                if entry == ENTRY_HOLE or (entry == ENTRY_ZERO and expected != ZERO_DIGEST):
                    raise chain.damaged(
                        layer.holder.record, name, f"it lacks grain {place + window.first} of the manifest", None
                    )
                if entry != ENTRY_ZERO:
                    wanted.append((entry, place, expected))
            wanted.sort()
            payloads = extent.payloads([(place + first, entry) for entry, place, _ in wanted])
            for (entry, place, expected), payload in zip(wanted, payloads, strict=True):
                grain = place + window.first
                area = (entry * SECTOR_BYTES, grain_record_bytes(len(payload)))
                try:
                    plain = layer.opener.unseal(payload, grain, layer.holder.record.number)
                except UnsealError as error:
                    raise chain.damaged(layer.holder.record, name, f"grain {grain}: {error}", area) from error
                if digest(plain) != expected:
                    raise chain.damaged(layer.holder.record, name, f"grain {grain} is not the one committed", area)
                found[place] = plain
        except NotFoundError as error:
            raise chain.damaged(layer.holder.record, name, "it is missing", None) from error
        except LayoutError as error:
            raise chain.damaged(layer.holder.record, name, str(error), (error.offset, error.length)) from error

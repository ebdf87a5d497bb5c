"""A replica's points as a merge sees them: which are there, which are dropped, and what stands on what."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from common.errors import DamagedError, NotFoundError, PreconditionError, StoreError
from common.ids import DiskKey, PointNumber, ReplicaId, TenantId
from target_appliance.recovery import points
from target_appliance.recovery.types import PointRecord
from target_appliance.store.port import Store


@dataclass(frozen=True)
class Run:
    """Dropped points of a disk that stand on one another, lowest first, and at last the point that stands on them."""

    disk: DiskKey
    points: tuple[PointNumber, ...]
    base: PointNumber | None
    """The point with a folder that the lowest one stands on."""


@dataclass(frozen=True)
class Inventory:
    """Records of a replica, and which points have a folder. Everything else follows; without a record, nothing does."""

    records: Mapping[PointNumber, PointRecord]
    folders: frozenset[PointNumber]
    dropped: frozenset[PointNumber]
    needed: frozenset[tuple[PointNumber, DiskKey]] = field(init=False)
    """Disks of points that a kept point has or stands on."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "needed", frozenset(self._needed()))

    @property
    def unneeded(self) -> tuple[PointNumber, ...]:
        """Dropped points that no kept one stands on, rising."""
        used = {point for point, _ in self.needed}
        return tuple(sorted(self.dropped - used))

    def below(self, point: PointNumber, disk: DiskKey) -> PointNumber | None:
        """The point with a folder that a disk stands on: what lies between was absorbed by ``point``."""
        base = self._base(point, disk)
        while base is not None and self._gone(base):
            base = self._base(base, disk)
        return base

    def absorbed(self, point: PointNumber, disk: DiskKey) -> tuple[PointNumber, ...]:
        """Points whose part of a disk lies in the folder of ``point``, newest first."""
        found: list[PointNumber] = []
        base = self._base(point, disk)
        while base is not None and self._gone(base):
            found.append(base)
            base = self._base(base, disk)
        return tuple(found)

    def runs(self) -> tuple[Run, ...]:
        """Every run of dropped points that could be merged, by disk, then from the lowest."""
        found = []
        for disk in sorted({disk for _, disk in self.needed}):
            mine = sorted(point for point, one in self.needed if one == disk and point in self.folders)
            below = {point: self.below(point, disk) for point in mine}
            above = {base: point for point, base in below.items() if base is not None}
            for lowest in mine:
                base = below[lowest]
                if lowest not in self.dropped or base in self.dropped:
                    continue
                run = [lowest]
                while run[-1] in self.dropped:
                    run.append(above[run[-1]])
                found.append(Run(disk, tuple(run), base))
        return tuple(found)

    def _needed(self) -> set[tuple[PointNumber, DiskKey]]:
        found: set[tuple[PointNumber, DiskKey]] = set()
        for kept in self.folders - self.dropped:
            record = self.records.get(kept)
            for disk in () if record is None else record.disks:
                point: PointNumber | None = kept
                while point is not None and (point, disk.spec.key) not in found:
                    found.add((point, disk.spec.key))
                    point = self._base(point, disk.spec.key)
        return found

    def _gone(self, point: PointNumber) -> bool:
        """Whether only its record is left; one that was lost has not even that."""
        return point in self.records and point not in self.folders

    def _base(self, point: PointNumber, disk: DiskKey) -> PointNumber | None:
        record = self.records.get(point)
        held = None if record is None else record.disk(disk)
        return None if held is None else held.base_point


def readable(store: Store, tenant: TenantId, replica: ReplicaId) -> Inventory:
    """The same as ``inventory``, without the records that cannot be read."""
    folders = points.folders(store, tenant, replica)
    records = {}
    for number in sorted({*folders, *points.recorded(store, tenant, replica)}):
        with suppress(NotFoundError, DamagedError, PreconditionError, StoreError):
            records[number] = points.read_point(store, tenant, replica, number)[0]
    return Inventory(records, frozenset(folders), points.dropped(store, tenant, replica).intersection(folders))


def inventory(store: Store, tenant: TenantId, replica: ReplicaId) -> Inventory:
    """What is in the store. Raises DamagedError: a record is not what was written."""
    folders = points.folders(store, tenant, replica)
    every = {*folders, *points.recorded(store, tenant, replica)}
    records = {number: points.read_point(store, tenant, replica, number)[0] for number in sorted(every)}
    return Inventory(records, frozenset(folders), points.dropped(store, tenant, replica).intersection(folders))

"""What the dropped points of a run hold and hold again, from their grain tables: no key, and no grain is read."""

from contextlib import closing

import numpy as np
from numpy.typing import NDArray

from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.recovery import names
from target_appliance.recovery.file_pool import FilePool
from target_appliance.recovery.inventory import Inventory, Run
from target_appliance.recovery.merge_plan import Sized, Slot
from target_appliance.seal.grain import PAYLOAD_MOST_BYTES
from target_appliance.store.port import Store
from target_appliance.vmdk.layout import ENTRY_HOLE, ENTRY_ZERO, SECTOR_BYTES, TABLE_ENTRIES, extent_capacities
from target_appliance.vmdk.reader import ExtentReader


def sized(store: Store, tenant: TenantId, replica: ReplicaId, have: Inventory, run: Run) -> Sized:
    """A run with its sizes. Raises LayoutError, NotFoundError, StoreError."""
    capacities = [_capacities(have, point, run) for point in run.points]
    with closing(FilePool(store)) as pool:
        slots = []
        for number in range(max(map(len, capacities))):
            extents: list[ExtentReader | None] = []
            files = []
            for point, mine in zip(run.points, capacities, strict=True):
                if number >= len(mine):
                    extents.append(None)
                    files.append(0)
                    continue
                folder = names.point_folder(tenant, replica, point)
                file = pool.file(f"{folder}/{names.extent_file(run.disk, number + 1, len(mine))}")
                extents.append(ExtentReader(file, mine[number], PAYLOAD_MOST_BYTES))
                files.append(file.size)
            held, grains = _held(extents)
            sizes = tuple(mine[number] if number < len(mine) else 0 for mine in capacities)
            alone = tuple(len(mine) == 1 for mine in capacities)
            slots.append(Slot(tuple(files), sizes, alone, grains, held))
    return Sized(run.disk, run.points, tuple(slots))


def _capacities(have: Inventory, point: PointNumber, run: Run) -> tuple[int, ...]:
    disk = have.records[point].disk(run.disk)
    return () if disk is None else extent_capacities(disk.spec.capacity_bytes)


def _held(extents: list[ExtentReader | None]) -> tuple[NDArray[np.int64], tuple[int, ...]]:
    count = len(extents)
    held = np.zeros((count, count + 1), np.int64)
    grains = [0] * count
    places = [dict(extent.tables()) if extent is not None else {} for extent in extents]
    for number in sorted(set().union(*places)):
        above = np.full(TABLE_ENTRIES, count)
        for point in reversed(range(count)):
            extent = extents[point]
            if extent is None or number not in places[point]:
                continue
            entries = np.array(extent.table(number), np.int64)
            (mine,) = np.nonzero(entries != ENTRY_HOLE)
            (real,) = np.nonzero(entries > ENTRY_ZERO)
            # Records of a table stand behind one another, the table's marker behind the last.
            ends = np.append(entries[real][1:], places[point][number] - 1)
            np.add.at(held[point], above[real], (ends - entries[real]) * SECTOR_BYTES)
            grains[point] += len(mine)
            above[mine] = point
    return held, tuple(grains)

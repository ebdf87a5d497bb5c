"""Dropping a point: a note in its folder, after which it is no point of its own. Its bytes go when nothing needs it."""

from typing import Final

from common.errors import PreconditionError
from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.recovery import names, points, small_file
from target_appliance.recovery.disk_place import Failpoint
from target_appliance.recovery.key_files import KeyFiles
from target_appliance.store.port import Store

DROP_WRITTEN: Final = "drop-written"
DROP_RENAMED: Final = "drop-renamed"
DROP_STEPS: Final = (DROP_WRITTEN, DROP_RENAMED)
"""Every step of a drop at which the failpoint is called, in order."""


def drop(  # noqa: PLR0917  the vault's, which names them
    store: Store,
    now: int,
    failpoint: Failpoint,
    tenant: TenantId,
    replica: ReplicaId,
    point: PointNumber,
    reason: str,
) -> None:
    """Drop a point, durable and for good. Who may, and why, is the caller's.

    Raises:
        NotFoundError: there is no such point, or it was dropped before.
        PreconditionError: it is the newest one, on which the next sync stands; or the tenant is being erased.
        BusyError: a point is just being made.
    """
    with KeyFiles(store).still_kept(tenant):
        if point not in points.numbers(store, tenant, replica):
            raise points.no_point(replica, point)
        if point == points.folders(store, tenant, replica)[-1]:
            raise PreconditionError(
                f"point {point} is the newest of replica {replica}, and the newest is never dropped",
                subject=f"point {point}",
                next_step="drop an older one, or sync first",
            )
        here = names.replica_folder(tenant, replica)
        made, place = f"{here}/{names.DROPPING}", names.point_folder(tenant, replica, point)
        store.remove_tree(made)
        store.make_folder(made)
        note = {"reason": reason, "time": now}
        small_file.write(store, f"{made}/{names.DROPPED_FILE}", note)
        failpoint(DROP_WRITTEN)
        store.rename(f"{made}/{names.DROPPED_FILE}", f"{place}/{names.DROPPED_FILE}")
        failpoint(DROP_RENAMED)
        store.sync_folder(place)
        store.remove_tree(made)

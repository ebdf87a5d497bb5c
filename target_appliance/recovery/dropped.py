"""Dropping a point: a note on it, after which it is no point of its own. Its bytes go when nothing needs it."""

from typing import Final

from common.errors import PreconditionError
from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.recovery import names, points, small_file
from target_appliance.recovery.disk_place import Failpoint
from target_appliance.recovery.key_files import KeyFiles
from target_appliance.store.port import Store

DROP_NOTED: Final = "drop-noted"
DROP_STEPS: Final = (DROP_NOTED,)
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
        kept = points.numbers(store, tenant, replica)
        if point not in kept:
            raise points.no_point(replica, point)
        if point == kept[-1]:
            raise PreconditionError(
                f"point {point} is the newest of replica {replica}, and the newest is never dropped",
                subject=f"point {point}",
                next_step="drop an older one, or sync first",
            )
        folder = names.dropped_folder(tenant, replica)
        store.make_folder(folder)
        small_file.replace(store, folder, names.dropped_file(point), {"reason": reason, "time": now})
        failpoint(DROP_NOTED)

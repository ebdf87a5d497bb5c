"""Dropping a point by hand: locks and holds stand above whoever asks."""

from common.errors import PreconditionError
from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.recovery.vault import Vault
from target_appliance.retention import settings
from target_appliance.retention.rules import when


def drop(vault: Vault, tenant: TenantId, replica: ReplicaId, point: PointNumber, reason: str) -> None:
    """Drop a point that is neither locked nor held, whatever the rules say of it.

    Raises:
        NotFoundError: there is no such point.
        PreconditionError: it is locked, held, or the newest; or the tenant is being erased.
        DamagedError: nobody can tell whether it is locked or held.
        BusyError: keys or settings of the tenant are being changed, or a point is just being made.
    """
    with vault.keyring.files.locked(tenant):
        locked_until = vault.point(tenant, replica, point).locked_until
        if locked_until is not None and locked_until > vault.time.now():
            raise PreconditionError(
                f"point {point} of replica {replica} is locked until {when(locked_until)}, and nobody shortens a lock",
                subject=f"point {point}",
                next_step="drop it when that time has come",
            )
        holds = settings.of_replica(vault.store, tenant, replica).holds.get(point, ())
        if holds:
            raise PreconditionError(
                f"point {point} of replica {replica} is held: {', '.join(hold.name for hold in holds)}",
                subject=f"point {point}",
                next_step="release it with target-appliance points release, if that is right",
            )
        vault.drop(tenant, replica, point, reason)

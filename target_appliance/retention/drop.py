"""The one way to drop a point: what is locked, held or in use stands above whoever asks, the rules or a person."""

from common.errors import PreconditionError
from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.recovery.vault import Vault
from target_appliance.retention.plan import Plan, plan
from target_appliance.retention.rules import Verdict


def drop(vault: Vault, tenant: TenantId, replica: ReplicaId, point: PointNumber, reason: str) -> None:
    """Drop a point that a person names, whatever the rules say of it.

    Raises:
        NotFoundError: there is no such point.
        PreconditionError: it is locked, held, in use, or the newest; or the tenant is being erased.
        DamagedError: nobody can tell whether it is locked or held.
        BusyError: keys or settings of the tenant are being changed, or a point is just being made.
    """
    with vault.keyring.files.locked(tenant):
        vault.point(tenant, replica, point)
        planned = plan(vault, tenant, replica)
        (verdict,) = (one for one in planned.verdicts if one.number == point)
        drop_planned(vault, planned, verdict, reason)


def drop_planned(vault: Vault, planned: Plan, verdict: Verdict, reason: str) -> None:
    """Drop a point of a plan that was made under the tenant's lock (KeyFiles.locked), which is held still.

    Raises what ``drop`` raises.
    """
    if verdict.binding:
        raise PreconditionError(
            f"point {verdict.number} of replica {planned.replica} is not dropped: {'; '.join(verdict.binding)}",
            subject=f"point {verdict.number}",
            next_step="drop it when that is over; target-appliance points release takes back a hold, nothing a lock",
        )
    vault.drop(planned.tenant, planned.replica, verdict.number, reason)

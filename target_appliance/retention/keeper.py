"""What the provider changes: policies, locks of later points, holds."""

from dataclasses import dataclass, replace

from common.errors import DamagedError, NotFoundError, PreconditionError
from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.recovery import points
from target_appliance.recovery.types import PointRecord
from target_appliance.recovery.vault import Vault
from target_appliance.retention import settings
from target_appliance.retention.policy import Policy
from target_appliance.retention.rules import Hold, when


@dataclass(frozen=True, slots=True)
class Keeper:
    """Each method reads and writes under the tenant's lock, and may raise BusyError and DamagedError."""

    vault: Vault

    def set_tenant(self, tenant: TenantId, policy: Policy | None, lock_days: int | None) -> settings.OfTenant:
        """Set what is given; points that are there keep their locks, whatever ``lock_days`` becomes."""
        with self.vault.keyring.files.locked(tenant):
            before = settings.of_tenant(self.vault.store, tenant)
            days = before.lock_days if lock_days is None else lock_days
            after = settings.OfTenant(policy or before.policy, days)
            settings.put_tenant(self.vault.store, tenant, after)
        return after

    def clear_tenant(self, tenant: TenantId) -> settings.OfTenant:
        """Take the tenant's policy back: its replicas without one of their own keep all."""
        with self.vault.keyring.files.locked(tenant):
            after = replace(settings.of_tenant(self.vault.store, tenant), policy=None)
            settings.put_tenant(self.vault.store, tenant, after)
        return after

    def set_replica(self, tenant: TenantId, replica: ReplicaId, policy: Policy | None) -> settings.OfReplica:
        """Give a replica a policy of its own; None takes it back."""
        with self.vault.keyring.files.locked(tenant):
            after = replace(settings.of_replica(self.vault.store, tenant, replica), policy=policy)
            settings.put_replica(self.vault.store, tenant, replica, after)
        return after

    def hold(self, tenant: TenantId, replica: ReplicaId, point: PointNumber, hold: Hold) -> settings.OfReplica:
        """Keep a point until it is released. Raises NotFoundError, InvalidInputError."""
        with self.vault.keyring.files.locked(tenant):
            self.vault.point(tenant, replica, point)
            after = settings.held(settings.of_replica(self.vault.store, tenant, replica), point, hold)
            settings.put_replica(self.vault.store, tenant, replica, after)
        return after

    def release(self, tenant: TenantId, replica: ReplicaId, point: PointNumber, name: str) -> settings.OfReplica:
        """Take a hold back. Raises NotFoundError."""
        with self.vault.keyring.files.locked(tenant):
            after = settings.released(settings.of_replica(self.vault.store, tenant, replica), point, name)
            settings.put_replica(self.vault.store, tenant, replica, after)
        return after

    def last_lock(self, tenant: TenantId) -> PointRecord | None:
        """The tenant's point whose lock ends last, if one is locked now.

        A point whose record is damaged has no lock that anybody could read, and none is made up for it.
        """
        now, found = self.vault.time.now(), []
        for replica in self.vault.replicas(tenant):
            for number in self.vault.point_numbers(tenant, replica):
                try:
                    record, _ = points.read_point(self.vault.store, tenant, replica, number)
                except (DamagedError, NotFoundError):
                    continue
                if (record.locked_until or 0) > now:
                    found.append(record)
        return max(found, key=lambda record: record.locked_until or 0, default=None)

    def require_no_lock(self, tenant: TenantId) -> None:
        """Return if no point of the tenant's is locked.

        Raises:
            PreconditionError: one is; the message says when the last lock ends.
        """
        if last := self.last_lock(tenant):
            raise PreconditionError(
                f"points of tenant {tenant} are locked, the last of them, point {last.number} of replica "
                f"{last.replica}, until {when(last.locked_until or 0)}, and nobody shortens a lock",
                subject=f"tenant {tenant}",
                next_step="suspend the tenant, and erase it when that time has come",
            )

"""What the rules say of a replica's points as the store holds them now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from common.errors import DamagedError
from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.recovery import names, points
from target_appliance.recovery.types import PointRecord
from target_appliance.recovery.vault import Vault
from target_appliance.retention import settings
from target_appliance.retention.policy import Policy
from target_appliance.retention.rules import Point, Verdict, decide

_DAY: Final = 86400


@dataclass(frozen=True, slots=True)
class Plan:
    """For one replica. ``verdicts`` and ``records`` rise by number and are of the same points."""

    tenant: TenantId
    replica: ReplicaId
    policy: Policy | None
    whose: str
    """``replica`` or ``tenant``: whose policy it is; ``nobody`` where there is none."""
    now: int
    """By trusted time."""
    verdicts: tuple[Verdict, ...]
    records: tuple[PointRecord, ...]
    damaged: dict[PointNumber, str]
    """Points whose records cannot be read, with the cause. They are kept: nobody can say that they may go."""

    @property
    def drops(self) -> tuple[Verdict, ...]:
        """What may go."""
        return tuple(one for one in self.verdicts if not one.kept)

    @property
    def last_day(self) -> tuple[int, int]:
        """Points committed within the day before ``now``, and how many of them hold nothing of any disk."""
        young = [record for record in self.records if record.retention_time > self.now - _DAY]
        return len(young), sum(not any(disk.grains for disk in record.disks) for record in young)


def plan(vault: Vault, tenant: TenantId, replica: ReplicaId) -> Plan:
    """Ask the rules. Whoever acts on it holds the tenant's lock (KeyFiles.locked) from before this until he is done.

    Raises:
        DamagedError: the settings of the tenant or the replica are not what was written; nothing may be dropped.
    """
    own, tenants = settings.of_replica(vault.store, tenant, replica), settings.of_tenant(vault.store, tenant)
    policy = own.policy or tenants.policy
    whose = "replica" if own.policy else "tenant" if tenants.policy else "nobody"
    # Before the points: a sync that begins later stands on the newest of them, which is kept.
    syncing = bool(vault.store.names(names.staging_folder(tenant, replica)))
    records: list[PointRecord] = []
    damaged: dict[PointNumber, str] = {}
    for number in vault.point_numbers(tenant, replica):
        try:
            records.append(points.read_point(vault.store, tenant, replica, number)[0])  # which is kept: it was listed
        except DamagedError as error:
            damaged[number] = error.message
    standing = _newest_with_each_disk(records) if syncing else frozenset()
    now = vault.time.now()
    found = [
        Point(record.number, record.retention_time, record.locked_until, record.number in standing)
        for record in records
    ]
    return Plan(tenant, replica, policy, whose, now, decide(found, policy, own.holds, now), tuple(records), damaged)


def _newest_with_each_disk(records: Sequence[PointRecord]) -> frozenset[PointNumber]:
    """What a sync may stand on: not the newest point alone, which may lack a disk that came back."""
    newest = {disk.spec.key: record.number for record in records for disk in record.disks}
    return frozenset(newest.values())

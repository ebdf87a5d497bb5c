"""Syncs under way: begun, gone on with after a restart, and what is left of those that were given up."""

from collections.abc import Collection, Mapping

from common.errors import NotFoundError
from common.ids import AgentId, DiskKey, ReplicaId, SyncId, TenantId, parse_point, parse_sync
from target_appliance.recovery import begin, names, parked, points, vm_file
from target_appliance.recovery.disk_place import Failpoint
from target_appliance.recovery.keyring import Keyring
from target_appliance.recovery.replay_file import ReplayError
from target_appliance.recovery.staging import StagedSync, SyncPlan
from target_appliance.recovery.types import PointRecord, SyncHeader
from target_appliance.retention.clock import TrustedTime
from target_appliance.retention.stamp import Stamp, stamp
from target_appliance.seal.keys import DataKey, Entropy
from target_appliance.store.port import Store


class Syncs:
    """The vault's. Holds no state of its own; whose turn it is to write a replica is decided by leases."""

    def __init__(
        self, store: Store, keyring: Keyring, time: TrustedTime, failpoint: Failpoint, entropy: Entropy
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._time = time
        self._failpoint = failpoint
        self._entropy = entropy

    def begin(
        self, tenant: TenantId, replica: ReplicaId, sync: SyncId, header: SyncHeader, owner: AgentId | None = None
    ) -> StagedSync:
        """Open a sync: checks the key, makes DEKs for new disks, makes the staging folder. The lease is the caller's.

        With an ``owner`` the sync may be reopened after a restart.

        Raises:
            KeyNotUsableError, KmsUnavailableError: nothing is accepted.
            InvalidInputError: the header cannot be.
            PreconditionError: it was planned on another newest point, a delta has nothing to stand on, or the tenant
                is being erased.
            DamagedError: the newest point's record is not authentic, or nobody can say for how long to lock the point.
        """
        self._keyring.files.require_kept(tenant)
        self._keyring.require(tenant)
        stamp(self._store, self._time, tenant)  # what could not be committed is not begun
        begin.check_header(header)
        newest = points.newest(self._store, tenant, replica)
        begin.check_base(header, newest)
        if newest is not None:
            begin.check_epochs(header, newest, self._keyring.newest_epochs(tenant, replica))
        bases = begin.bases(header, points.newest_first(self._store, tenant, replica))
        used = [] if newest is None else [(disk.spec.key, disk.key_epoch) for disk in newest.disks]
        keys = self._keyring.ensure(tenant, replica, bases, used)
        if newest is not None:
            self._check_parent(newest, {**keys, **self._older_keys(newest, keys)})
        self._store.make_folder(names.sync_folder(tenant, replica, sync))
        number = parse_point(1 if newest is None else newest.number + 1)
        vm = vm_file.stage(self._store, header, keys, (tenant, replica, sync), point=number, entropy=self._entropy)
        plan = SyncPlan(tenant, replica, sync, header, number, newest, bases, keys, self._entropy, owner, vm)
        staged = StagedSync(self._store, self._stamp, plan, self._failpoint)
        staged.park_place()
        return staged

    def parked(self, tenant: TenantId, replica: ReplicaId) -> tuple[SyncId, ...]:
        """Syncs of earlier processes that may be reopened."""
        staged = set(self._store.names(names.staging_folder(tenant, replica)))
        return tuple(
            sync
            for sync in names.parsed(self._store.names(names.resumes_folder(tenant, replica)), parse_sync)
            if sync in staged
        )

    def owner(self, tenant: TenantId, replica: ReplicaId, sync: SyncId) -> AgentId:
        """The agent whose parked sync it is. Raises NotFoundError."""
        return parked.read(self._store, tenant, replica, sync).owner

    def reopen(self, tenant: TenantId, replica: ReplicaId, sync: SyncId) -> tuple[StagedSync, SyncHeader]:
        """A sync that an earlier process staged, as far as it was durable; reads all of it. The lease is the caller's.

        Raises:
            NotFoundError: there is none that can go on; what was staged is gone.
            KeyNotUsableError, KmsUnavailableError: nothing is accepted now.
            StoreError, StoreFullError: the store's.
        """
        self._keyring.require(tenant)
        found = parked.read(self._store, tenant, replica, sync)
        record, newest = found.record, points.newest(self._store, tenant, replica)
        keys = {
            disk.spec.key: self._keyring.open(tenant, replica, disk.spec.key, disk.key_epoch) for disk in record.disks
        }
        parent = None if newest is None else (newest.number, newest.record_hash)
        staged = sync in self._store.names(names.staging_folder(tenant, replica))
        whole = staged and found.authentic(keys) and vm_file.staged(self._store, record)
        if not whole or parent != found.parent:
            self._discard(tenant, replica, sync)
            raise no_parked(sync, "it was planned on another point, or is not what was written")
        bases = {disk.spec.key: disk.base_point for disk in record.disks}
        plan = SyncPlan(
            tenant,
            replica,
            sync,
            found.header,
            record.number,
            newest,
            bases,
            keys,
            self._entropy,
            found.owner,
            record.vm,
        )
        again = StagedSync(self._store, self._stamp, plan, self._failpoint, reopened=True)
        try:
            again.restore()
        except ReplayError as error:
            again.discard()
            raise no_parked(sync, str(error)) from error
        return again, found.header

    def sweep(self, tenant: TenantId, replica: ReplicaId, keep: Collection[SyncId] = ()) -> tuple[str, ...]:
        """Remove what syncs that are not in ``keep`` left in staging; returns the names of what was removed."""
        left: list[str] = []
        for folder in (names.staging_folder(tenant, replica), names.resumes_folder(tenant, replica)):
            for name in self._store.names(folder):
                if name not in keep:
                    self._store.remove_tree(f"{folder}/{name}")
                    left.append(name)
        return tuple(sorted(set(left)))

    def _discard(self, tenant: TenantId, replica: ReplicaId, sync: SyncId) -> None:
        self._store.remove_tree(names.sync_folder(tenant, replica, sync))
        self._store.remove_tree(names.resume_folder(tenant, replica, sync))

    def _stamp(self, tenant: TenantId) -> Stamp:
        return stamp(self._store, self._time, tenant)

    def _older_keys(self, newest: PointRecord, keys: Mapping[DiskKey, DataKey]) -> dict[DiskKey, DataKey]:
        """DEKs of the newest point that are not the disks' newest any more."""
        return {
            disk.spec.key: self._keyring.open(newest.tenant, newest.replica, disk.spec.key, disk.key_epoch)
            for disk in newest.disks
            if disk.spec.key in keys and keys[disk.spec.key].epoch != disk.key_epoch
        }

    def _check_parent(self, newest: PointRecord, keys: Mapping[DiskKey, DataKey]) -> None:
        """Nothing is built on a record that the disks' keys do not vouch for."""
        _, macs = points.read_point(self._store, newest.tenant, newest.replica, newest.number)
        for disk in newest.disks:
            key = keys.get(disk.spec.key)
            if key is not None and key.epoch == disk.key_epoch:
                points.check_mac(newest, macs, key)


def no_parked(sync: SyncId, why: str) -> NotFoundError:
    """A staged sync cannot go on."""
    return NotFoundError(f"what was staged cannot go on: {why}", subject=f"sync {sync}", next_step="begin a new sync")

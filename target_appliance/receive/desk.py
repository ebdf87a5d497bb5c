"""Syncs from their beginning to their end: begun, gone on with, committed, parked, ended.

Holds no wire types: the service translates.
"""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from common import log
from common.clock import Clock
from common.errors import KeyNotUsableError, KeysapartError, TargetUnavailableError
from common.ids import ReplicaId, SyncId, TenantId, new_sync_id
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.model import Lease
from target_appliance.identity.authn import Identity
from target_appliance.receive.allowance import Allowance, Share
from target_appliance.receive.open_sync import LEASE_SECONDS, OpenSync, OpenSyncs, no_such_sync
from target_appliance.recovery.types import CommittedPoint, SyncHeader
from target_appliance.recovery.vault import Vault

_log = log.get("replication")

_SUPERSEDED: Final = "a newer sync of this VM took over"
_MOST_PARKED: Final = 64
"""Syncs of one tenant that may wait for their agents: each keeps up to a few MiB for every disk."""


class SyncDesk:
    """All syncs of this process. Methods may be called from any thread.

    Args:
        vault: where points lie.
        catalog: leases, and rows of points.
        syncs: those that are open.
        allowance: what each tenant may take.
        clock: for silence and for durations.
        park_seconds: how long a sync whose agent is silent may wait for it; 0 for not at all.
        committed: told of each point when its files are there, before its catalog row is: a crash in between is made
            good at the next start, for both.
        ended: told of each sync that ends without a point, and why.
    """

    def __init__(
        self,
        vault: Vault,
        catalog: Catalog,
        syncs: OpenSyncs,
        allowance: Allowance,
        clock: Clock,
        *,
        park_seconds: float,
        committed: Callable[[OpenSync, CommittedPoint], None],
        ended: Callable[[OpenSync, str], None],
    ) -> None:
        self._vault = vault
        self._catalog = catalog
        self._syncs = syncs
        self._allowance = allowance
        self._clock = clock
        self._park_seconds = park_seconds
        self._committed = committed
        self._ended = ended
        self._reopening = threading.Lock()
        self._started = clock.monotonic()
        self._swept = False

    def begin(self, caller: Identity, replica: ReplicaId, header: SyncHeader) -> OpenSync:
        """Key, allowance, lease, staging: in this order; each is given back when a later one refuses.

        Raises:
            KeyNotUsableError, KmsUnavailableError: nothing is accepted for the tenant now.
            LimitExceededError: the tenant may take no more.
            BusyError: another agent writes the replica.
            KeysapartError: what Vault.begin raises.
        """
        self._vault.require_key(caller.tenant)
        sync = new_sync_id()
        share, lease = self._admitted(caller, replica, sync)
        try:
            owner = caller.agent if self._park_seconds else None
            staged = self._vault.syncs.begin(caller.tenant, replica, sync, header, owner)
        except BaseException:
            self._turned_away(share, lease)
            raise
        now = self._clock.monotonic()
        entry = OpenSync(sync, caller, replica, header.vm_name, staged, lease, share, renewed=now, heard=now)
        for older in self._syncs.add(entry):
            if self._syncs.remove(older, _SUPERSEDED):
                self._ended(older, _SUPERSEDED)
                older.staged.discard()
        self._vault.syncs.sweep(caller.tenant, replica, keep=(sync,))  # what an earlier process parked
        _log.info(
            "sync begun",
            tenant=caller.tenant,
            agent=caller.agent,
            replica=replica,
            sync=sync,
            vm=header.vm_name,
            kind=header.kind.value,
            point=staged.point,
        )
        return entry

    def commit(self, entry: OpenSync) -> CommittedPoint:
        """All disks become a point: files first, the catalog's row last.

        Raises:
            PreconditionError: a disk is missing; the sync stays open.
            KmsUnavailableError: the KMS has been silent for too long; the sync stays open.
            KeysapartError: whatever failed; the sync is over.
        """
        began = self._clock.monotonic()
        try:
            self._vault.still(entry.owner.tenant)
        except KeyNotUsableError as error:
            self.end(entry, error.message)
            raise
        entry.close_for_commit()
        try:
            self._catalog.check(entry.lease)
            committed = entry.staged.commit()
        except BaseException:
            self.end(entry, "its commit failed")
            raise
        self._committed(entry, committed)
        self._catch_up(entry.owner.tenant, entry.replica)
        self._syncs.remove(entry, "it is committed")
        self._catalog.release(entry.lease)
        _log.info(
            "point committed",
            tenant=entry.owner.tenant,
            replica=entry.replica,
            sync=entry.sync,
            point=committed.number,
            stored_bytes=committed.stored_bytes,
            commit_seconds=round(self._clock.monotonic() - began, 3),
        )
        return committed

    def end(self, entry: OpenSync, why: str) -> None:
        """The sync is over, and nothing comes of it; harmless when it is already."""
        if not self._syncs.remove(entry, why):
            return
        self._ended(entry, why)
        try:
            entry.staged.discard()
            self._catalog.release(entry.lease)
        except KeysapartError as error:
            # The sync is over either way; its staging folder is swept at the next start, its lease lapses.
            _log.warning("a sync was not cleaned up", sync=entry.sync, cause=error.message)

    def settle_silent(self) -> int:
        """Park the syncs whose agents are silent for longer than a lease; returns how many.

        A parked one ends when it has waited for too long, when its tenant has too many, or when a sync of its replica
        begins.
        """
        waiting: Counter[TenantId] = Counter()
        silent = self._syncs.silent()
        parked = 0
        limit = self._clock.monotonic() - self._park_seconds
        if not self._swept and self._started < limit:
            self._swept = True
            self.sweep()
        for entry in reversed(silent):
            waiting[entry.owner.tenant] += 1
            if entry.heard < limit or waiting[entry.owner.tenant] > _MOST_PARKED:
                _log.warning("sync ended: its agent stays away", replica=entry.replica, sync=entry.sync)
                self.end(entry, "its agent stayed away")
            elif not entry.parked:
                parked += self._park(entry)
        return parked

    def _park(self, entry: OpenSync) -> bool:
        try:
            entry.park()
        except TargetUnavailableError:
            return False
        except KeysapartError as error:
            _log.warning("a silent sync was ended", sync=entry.sync, cause=error.message)
            self.end(entry, error.message)
            return False
        _log.warning("sync parked: its agent is silent", replica=entry.replica, sync=entry.sync)
        return True

    def end_all(self) -> None:
        """The appliance stops: what is staged waits for the next start, if syncs are parked at all."""
        for entry in self._syncs.all():
            if self._park_seconds and not entry.committing and self._park(entry):
                self._syncs.remove(entry, "the appliance stopped")
                self._catalog.release(entry.lease)
            else:
                self.end(entry, "the appliance stopped")

    def sweep(self) -> None:
        """Remove what earlier processes staged and nobody went on with."""
        live = {entry.sync for entry in self._syncs.all()}
        for tenant in self._vault.tenants():
            for replica in self._vault.replicas(tenant):
                for name in self._vault.syncs.sweep(tenant, replica, live | self._catalog.live_syncs()):
                    _log.info("staging folder of an unfinished sync removed", replica=replica, sync=name)

    def reopened(self, caller: Identity, replica: ReplicaId, sync: SyncId) -> OpenSync:
        """A sync that an earlier process of this appliance parked, or was killed in.

        Raises:
            NotFoundError: there is none, it is another's, or it cannot go on.
            TargetUnavailableError: another call is reading it back.
        """
        if sync not in self._vault.syncs.parked(caller.tenant, replica):
            raise no_such_sync(sync)
        if self._vault.syncs.owner(caller.tenant, replica, sync) != caller.agent:
            raise no_such_sync(sync)
        if not self._reopening.acquire(blocking=False):
            raise TargetUnavailableError(
                "a sync is being read back from the store", subject=f"sync {sync}", next_step="ask again in a moment"
            )
        try:
            found = self._syncs.find(caller, sync)
            if found is not None:
                return found
            if self._syncs.writes(caller.tenant, replica):
                raise no_such_sync(sync)
            return self._reopen(caller, replica, sync)
        finally:
            self._reopening.release()

    def _reopen(self, caller: Identity, replica: ReplicaId, sync: SyncId) -> OpenSync:
        share, lease = self._admitted(caller, replica, sync)
        try:
            staged, header = self._vault.syncs.reopen(caller.tenant, replica, sync)
            lease = self._catalog.renew(lease, LEASE_SECONDS)
        except BaseException as error:
            cause = error.message if isinstance(error, KeysapartError) else type(error).__name__
            _log.warning("a parked sync does not go on", replica=replica, sync=sync, cause=cause)
            self._turned_away(share, lease)
            raise
        now = self._clock.monotonic()
        entry = OpenSync(sync, caller, replica, header.vm_name, staged, lease, share, renewed=now, heard=now)
        self._syncs.add(entry)
        _log.info("sync read back", tenant=caller.tenant, agent=caller.agent, replica=replica, sync=sync)
        return entry

    def _admitted(self, caller: Identity, replica: ReplicaId, sync: SyncId) -> tuple[Share, Lease]:
        share = self._allowance.begin(caller.tenant, replica)
        try:
            return share, self._catalog.take_lease(caller.tenant, replica, caller.agent, sync, LEASE_SECONDS)
        except BaseException:
            share.release()
            raise

    def _turned_away(self, share: Share, lease: Lease) -> None:
        share.release()
        self._catalog.release(lease)

    def _catch_up(self, tenant: TenantId, replica: ReplicaId) -> None:
        """Note every point that the catalog lacks: this one, and those whose commit ended between rename and row."""
        known = {row.number for row in self._catalog.points(tenant, replica)}
        for number in self._vault.point_numbers(tenant, replica):
            if number not in known:
                record = self._vault.point(tenant, replica, number)
                self._catalog.record_point(record, self._vault.stored_bytes(tenant, replica, number))

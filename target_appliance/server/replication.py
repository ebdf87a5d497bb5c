"""The Replication service: reads requests, asks vault, catalog and open syncs, writes answers."""

import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Final

import grpc

from common import log
from common.clock import Clock
from common.errors import InvalidInputError, KeysapartError, TargetUnavailableError
from common.ids import ReplicaId, SyncId, TenantId, new_sync_id, parse_disk_key, parse_replica, parse_sync
from common.sync.events import MAX_FRAME_BYTES, PROTOCOL_VERSION, WINDOW_BYTES, Open
from common.wire.v1 import replication_pb2 as wire
from target_appliance.catalog.catalog import Catalog
from target_appliance.identity.authn import Identity
from target_appliance.receive.claim import Claim
from target_appliance.receive.open_sync import LEASE_SECONDS, OpenSync, OpenSyncs, no_such_sync
from target_appliance.receive.receiver import Disk, receive
from target_appliance.recovery.vault import Vault
from target_appliance.server import wire_types
from target_appliance.server.edge import Call
from target_appliance.server.limits import IdleWatch

_log = log.get("replication")

_MOST_RANGES: Final = 65536
_MOST_CAUSE: Final = 1024
_MOST_PARKED: Final = 64
"""Syncs of one tenant that may wait for their agents: each keeps up to a few MiB for every disk."""


class ReplicationService:
    """Handlers by RPC name; gRPC calls them through the edge, which has checked the caller."""

    def __init__(
        self,
        vault: Vault,
        catalog: Catalog,
        syncs: OpenSyncs,
        watch: IdleWatch,
        clock: Clock,
        *,
        streams: int,
        park_seconds: float,
    ) -> None:
        self._vault = vault
        self._catalog = catalog
        self._syncs = syncs
        self._watch = watch
        self._clock = clock
        self._streams = streams
        self._park_seconds = park_seconds
        self._reopening = threading.Lock()
        self._started = clock.monotonic()
        self._swept = False

    def DescribeReplica(self, request: wire.DescribeReplicaRequest, call: Call) -> wire.DescribeReplicaResponse:  # noqa: N802 - the proto's name
        """Newest point and bounds; refuses what BeginSync would refuse now."""
        replica = parse_replica(request.replica)
        tenant = call.caller.tenant
        self._vault.require_key(tenant)
        self._catalog.require_free(tenant, replica, call.caller.agent)
        newest = self._vault.newest(tenant, replica)
        return wire.DescribeReplicaResponse(
            newest=wire_types.point(newest) if newest else None,
            max_frame_bytes=MAX_FRAME_BYTES,
            window_bytes=WINDOW_BYTES,
            max_streams=self._streams,
            protocol_versions=[PROTOCOL_VERSION],
            time_seconds=int(self._clock.now().timestamp()),
        )

    def BeginSync(self, request: wire.BeginSyncRequest, call: Call) -> wire.BeginSyncResponse:  # noqa: N802
        """Key, lease, staging: in this order; the lease is given back when staging refuses."""
        caller = call.caller
        replica = parse_replica(request.replica)
        header = wire_types.header(request)
        self._vault.require_key(caller.tenant)
        sync = new_sync_id()
        lease = self._catalog.take_lease(caller.tenant, replica, caller.agent, sync, LEASE_SECONDS)
        try:
            owner = caller.agent if self._park_seconds else None
            staged = self._vault.begin(caller.tenant, replica, sync, header, owner)
        except BaseException:
            self._catalog.release(lease)
            raise
        now = self._clock.monotonic()
        entry = OpenSync(sync, caller, replica, header.vm_name, staged, lease, renewed=now, heard=now)
        for older in self._syncs.add(entry):
            if self._syncs.remove(older, "a newer sync of this VM took over"):
                older.staged.discard()
        self._vault.sweep_staging(caller.tenant, replica, keep=(sync,))  # what an earlier process parked
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
        return wire.BeginSyncResponse(sync=sync, point=staged.point, lease_seconds=int(LEASE_SECONDS))

    def GetManifest(self, request: wire.GetManifestRequest, call: Call) -> Iterator[wire.ManifestChunk]:  # noqa: N802
        """Digests of what the newest point holds."""
        entry = self._syncs.get(call.caller, parse_sync(request.sync))
        if len(request.ranges) > _MOST_RANGES:
            raise InvalidInputError(
                f"{len(request.ranges)} ranges are more than {_MOST_RANGES}",
                subject=f"sync {entry.sync}",
                next_step="ask for fewer at once",
            )
        ranges = [(wanted.first, wanted.count) for wanted in request.ranges] or None
        disk = parse_disk_key(request.disk)
        for indices, digests in self._vault.manifest(entry.owner.tenant, entry.replica, disk, ranges):
            self._watch.heard(call.context)
            yield wire.ManifestChunk(indices=indices.astype("<u4").tobytes(), digests=digests.tobytes())

    def WriteDisk(self, frames: Iterable[bytes], call: Call) -> Iterator[wire.WriteAck]:  # noqa: N802
        """One disk of an open sync."""
        stream = _DiskStream(self._syncs, self._watch, call)
        try:
            yield from receive(frames, stream)
        except (grpc.RpcError, GeneratorExit):
            stream.cut()
            raise
        except BaseException:
            stream.given_up()
            raise

    def RenewLease(self, request: wire.RenewLeaseRequest, call: Call) -> wire.RenewLeaseResponse:  # noqa: N802
        """A sign of life."""
        entry = self._syncs.get(call.caller, parse_sync(request.sync))
        for stream in entry.streams:
            self._watch.heard(stream)
        return wire.RenewLeaseResponse(lease_seconds=int(LEASE_SECONDS))

    def CommitSync(self, request: wire.CommitSyncRequest, call: Call) -> wire.CommitSyncResponse:  # noqa: N802
        """All disks become a point: files first, the catalog's row last."""
        entry = self._syncs.get(call.caller, parse_sync(request.sync))
        began = self._clock.monotonic()
        entry.close_for_commit()
        try:
            self._catalog.check(entry.lease)
            committed = entry.staged.commit()
        except BaseException:
            self._end(entry, "its commit failed")
            raise
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
        return wire.CommitSyncResponse(
            point=committed.number, record_hash=committed.record_hash, stored_bytes=committed.stored_bytes
        )

    def ResumeSync(self, request: wire.ResumeSyncRequest, call: Call) -> wire.ResumeSyncResponse:  # noqa: N802
        """How far a sync is after a cut; a sync that cannot go on is ended."""
        caller = call.caller
        sync, replica = parse_sync(request.sync), parse_replica(request.replica)
        entry = self._syncs.find(caller, sync)
        if entry is None:
            committed = self._committed(caller.tenant, replica, sync)
            if committed is not None:
                return wire.ResumeSyncResponse(committed=committed)
            entry = self._reopened(caller, replica, sync)
        if entry.committing:
            return wire.ResumeSyncResponse(committing=True)
        self._vault.require_key(caller.tenant)
        self._syncs.touch(entry)
        try:
            found = entry.resume()
        except TargetUnavailableError:
            raise
        except KeysapartError as error:
            self._end(entry, error.message)
            raise
        _log.info("sync resumed", tenant=caller.tenant, replica=replica, sync=sync)
        return wire.ResumeSyncResponse(
            disks=[wire.DiskProgress(disk=one.disk, finished=one.finished, next_grain=one.next_grain) for one in found]
        )

    def AbortSync(self, request: wire.AbortSyncRequest, call: Call) -> wire.AbortSyncResponse:  # noqa: N802
        """The source gives up."""
        entry = self._syncs.get(call.caller, parse_sync(request.sync))
        self._end(entry, "the agent ended it")
        cause = ascii(request.cause[:_MOST_CAUSE])
        _log.info("sync aborted", tenant=entry.owner.tenant, replica=entry.replica, sync=entry.sync, cause=cause)
        return wire.AbortSyncResponse()

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
                self._end(entry, "its agent stayed away")
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
            self._end(entry, error.message)
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
                self._end(entry, "the appliance stopped")

    def sweep(self) -> None:
        """Remove what earlier processes staged and nobody went on with."""
        live = {entry.sync for entry in self._syncs.all()}
        for tenant in self._vault.tenants():
            for replica in self._vault.replicas(tenant):
                for name in self._vault.sweep_staging(tenant, replica, live | self._catalog.live_syncs()):
                    _log.info("staging folder of an unfinished sync removed", replica=replica, sync=name)

    def _reopened(self, caller: Identity, replica: ReplicaId, sync: SyncId) -> OpenSync:
        """A sync that an earlier process of this appliance parked, or was killed in.

        Raises:
            NotFoundError: there is none, it is another's, or it cannot go on.
            TargetUnavailableError: another call is reading it back.
        """
        if sync not in self._vault.parked(caller.tenant, replica):
            raise no_such_sync(sync)
        if self._vault.owner(caller.tenant, replica, sync) != caller.agent:
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
        lease = self._catalog.take_lease(caller.tenant, replica, caller.agent, sync, LEASE_SECONDS)
        try:
            staged, header = self._vault.reopen(caller.tenant, replica, sync)
            lease = self._catalog.renew(lease, LEASE_SECONDS)
        except BaseException as error:
            cause = error.message if isinstance(error, KeysapartError) else type(error).__name__
            _log.warning("a parked sync does not go on", replica=replica, sync=sync, cause=cause)
            self._catalog.release(lease)
            raise
        now = self._clock.monotonic()
        entry = OpenSync(sync, caller, replica, header.vm_name, staged, lease, renewed=now, heard=now)
        self._syncs.add(entry)
        _log.info("sync read back", tenant=caller.tenant, agent=caller.agent, replica=replica, sync=sync)
        return entry

    def _committed(self, tenant: TenantId, replica: ReplicaId, sync: SyncId) -> wire.CommitSyncResponse | None:
        """The newest point, if ``sync`` made it."""
        newest = self._vault.newest(tenant, replica)
        if newest is None or newest.sync != sync:
            return None
        stored_bytes = self._vault.stored_bytes(tenant, replica, newest.number)
        return wire.CommitSyncResponse(point=newest.number, record_hash=newest.record_hash, stored_bytes=stored_bytes)

    def _catch_up(self, tenant: TenantId, replica: ReplicaId) -> None:
        """Note every point that the catalog lacks: this one, and those whose commit ended between rename and row."""
        known = {row.number for row in self._catalog.points(tenant, replica)}
        for number in self._vault.point_numbers(tenant, replica):
            if number not in known:
                record = self._vault.point(tenant, replica, number)
                self._catalog.record_point(record, self._vault.stored_bytes(tenant, replica, number))

    def _end(self, entry: OpenSync, why: str) -> None:
        if not self._syncs.remove(entry, why):
            return
        try:
            entry.staged.discard()
            self._catalog.release(entry.lease)
        except KeysapartError as error:
            # The sync is over either way; its staging folder is swept at the next start, its lease lapses.
            _log.warning("a sync was not cleaned up", sync=entry.sync, cause=error.message)


class _DiskStream:
    """What the receiver needs to know of the sync around a stream."""

    def __init__(self, syncs: OpenSyncs, watch: IdleWatch, call: Call) -> None:
        self._syncs = syncs
        self._watch = watch
        self._call = call
        self._entry: OpenSync | None = None
        self._claim: Claim | None = None

    def open(self, event: Open) -> tuple[Disk, int]:
        """See receiver.Stream."""
        entry = self._syncs.get(self._call.caller, event.sync)
        self._claim = entry.claim(event.disk, self._call.context)
        self._entry = entry
        return self._claim, entry.staged.disks[event.disk].capacity_bytes

    def alive(self) -> None:
        """See receiver.Stream."""
        self._watch.heard(self._call.context)
        if self._entry:
            self._syncs.touch(self._entry)

    def finished(self) -> None:
        """See receiver.Stream."""
        if self._entry and self._claim:
            self._entry.settle(self._claim)

    def cut(self) -> None:
        """The stream ended before its time: the disk waits for the next one."""
        if self._entry and self._claim:
            claim, self._claim = self._claim, None
            with suppress(KeysapartError):  # the next stream, or the commit, meets the same
                self._entry.rest(claim)

    def given_up(self) -> None:
        """The stream broke a rule, or the store failed: the disk can never be complete."""
        if self._entry and self._claim:
            self._entry.spoil(self._claim)

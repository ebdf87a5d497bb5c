"""The Replication service: reads requests, asks vault and desk, writes answers."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import grpc

from common import log
from common.clock import Clock
from common.errors import (
    AccessDeniedError,
    CertificateError,
    InvalidInputError,
    KeyNotUsableError,
    KeysapartError,
    KmsUnavailableError,
    TargetUnavailableError,
)
from common.ids import ReplicaId, SyncId, TenantId, parse_disk_key, parse_replica, parse_sync
from common.sync.events import MAX_FRAME_BYTES, PROTOCOL_VERSION, WINDOW_BYTES
from common.wire.v1 import replication_pb2 as wire
from target_appliance.catalog.catalog import Catalog
from target_appliance.receive.desk import SyncDesk
from target_appliance.receive.open_sync import LEASE_SECONDS, OpenSyncs
from target_appliance.receive.receiver import receive
from target_appliance.recovery.vault import Vault
from target_appliance.server import wire_types
from target_appliance.server.disk_stream import DiskStream
from target_appliance.server.edge import Call
from target_appliance.server.limits import IdleWatch
from target_appliance.server.registrar import Registrar

_log = log.get("replication")

_MOST_RANGES: Final = 65536
_MOST_CAUSE: Final = 1024


class ReplicationService:
    """Handlers by RPC name; gRPC calls them through the edge, which has checked the caller."""

    def __init__(
        self,
        vault: Vault,
        catalog: Catalog,
        syncs: OpenSyncs,
        desk: SyncDesk,
        *,
        watch: IdleWatch,
        clock: Clock,
        streams: Callable[[TenantId], int],
        registrar: Registrar,
    ) -> None:
        self._vault = vault
        self._catalog = catalog
        self._syncs = syncs
        self._desk = desk
        self._watch = watch
        self._clock = clock
        self._streams = streams
        self._registrar = registrar

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
            max_streams=self._streams(tenant),
            protocol_versions=[PROTOCOL_VERSION],
            time_seconds=int(self._clock.now().timestamp()),
            begins_chain=self._vault.begins_chain(tenant, replica),
        )

    def BeginSync(self, request: wire.BeginSyncRequest, call: Call) -> wire.BeginSyncResponse:  # noqa: N802
        """A sync of one replica."""
        replica = parse_replica(request.replica)
        header = wire_types.header(request)
        entry = self._desk.begin(call.caller, replica, header)
        call.facts.update(replica=replica, sync=entry.sync, point=entry.staged.point, kind=header.kind.value)
        return wire.BeginSyncResponse(sync=entry.sync, point=entry.staged.point, lease_seconds=int(LEASE_SECONDS))

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
        call.facts.update(replica=entry.replica, sync=entry.sync, disk=disk)
        call.begun()
        for indices, digests in self._vault.manifest(entry.owner.tenant, entry.replica, disk, ranges):
            call.standing.require()
            self._vault.still(entry.owner.tenant)
            self._watch.heard(call.context)
            yield wire.ManifestChunk(indices=indices.astype("<u4").tobytes(), digests=digests.tobytes())

    def WriteDisk(self, frames: Iterable[bytes], call: Call) -> Iterator[wire.WriteAck]:  # noqa: N802
        """One disk of an open sync."""
        stream = DiskStream(self._syncs, self._watch, call, self._vault.still)
        try:
            yield from receive(frames, stream)
        except (grpc.RpcError, GeneratorExit, CertificateError, AccessDeniedError, KmsUnavailableError):
            stream.cut()
            raise
        except KeyNotUsableError as error:
            if stream.sync is not None:
                self._desk.end(stream.sync, error.message)
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
        """All disks become a point."""
        entry = self._syncs.get(call.caller, parse_sync(request.sync))
        committed = self._desk.commit(entry)
        return wire.CommitSyncResponse(
            point=committed.number, record_hash=committed.record_hash, stored_bytes=committed.stored_bytes
        )

    def ResumeSync(self, request: wire.ResumeSyncRequest, call: Call) -> wire.ResumeSyncResponse:  # noqa: N802
        """How far a sync is after a cut; a sync that cannot go on is ended."""
        caller = call.caller
        sync, replica = parse_sync(request.sync), parse_replica(request.replica)
        call.facts.update(replica=replica, sync=sync)
        entry = self._syncs.find(caller, sync)
        if entry is None:
            committed = self._committed(caller.tenant, replica, sync)
            if committed is not None:
                return wire.ResumeSyncResponse(committed=committed)
            entry = self._desk.reopened(caller, replica, sync)
        if entry.committing:
            return wire.ResumeSyncResponse(committing=True)
        self._vault.require_key(caller.tenant)
        self._syncs.touch(entry)
        try:
            found = entry.resume()
        except TargetUnavailableError:
            raise
        except KeysapartError as error:
            self._desk.end(entry, error.message)
            raise
        _log.info("sync resumed", tenant=caller.tenant, replica=replica, sync=sync)
        return wire.ResumeSyncResponse(
            disks=[wire.DiskProgress(disk=one.disk, finished=one.finished, next_grain=one.next_grain) for one in found]
        )

    def AbortSync(self, request: wire.AbortSyncRequest, call: Call) -> wire.AbortSyncResponse:  # noqa: N802
        """The source gives up."""
        entry = self._syncs.get(call.caller, parse_sync(request.sync))
        self._desk.end(entry, "the agent ended it")
        cause = ascii(request.cause[:_MOST_CAUSE])
        _log.info("sync aborted", tenant=entry.owner.tenant, replica=entry.replica, sync=entry.sync, cause=cause)
        return wire.AbortSyncResponse()

    def _committed(self, tenant: TenantId, replica: ReplicaId, sync: SyncId) -> wire.CommitSyncResponse | None:
        """The newest point, if ``sync`` made it."""
        newest = self._vault.newest(tenant, replica)
        if newest is None or newest.sync != sync:
            return None
        stored_bytes = self._vault.stored_bytes(tenant, replica, newest.number)
        return wire.CommitSyncResponse(point=newest.number, record_hash=newest.record_hash, stored_bytes=stored_bytes)

    def RenewCertificate(self, request: wire.RenewCertificateRequest, call: Call) -> wire.RenewCertificateResponse:  # noqa: N802
        """A new certificate for the caller."""
        admitted = self._registrar.renew(call.caller, request.request)
        call.facts.update(renewed=admitted.row.fingerprint, until=admitted.row.not_after)
        _log.info("certificate renewed", tenant=admitted.row.tenant, agent=admitted.row.agent)
        return wire.RenewCertificateResponse(certificate=admitted.certificate_pem, authorities=admitted.authorities_pem)

"""The Recovery service: a tenant's operator looks at replicas and reads them back."""

from collections.abc import Iterator
from typing import Final

from common.errors import NotFoundError
from common.grain import GRAIN_BYTES, digest
from common.ids import parse_disk_key, parse_point, parse_replica
from common.reduce import packed_grain
from common.sync.codec import batch_message
from common.sync.events import Batch, GrainRecord
from common.wire.v1 import recovery_pb2 as wire
from common.wire.v1 import replication_pb2 as shared
from target_appliance.catalog.catalog import Catalog
from target_appliance.recovery.chain import DiskView
from target_appliance.recovery.vault import Vault
from target_appliance.server import wire_types
from target_appliance.server.edge import Call
from target_appliance.server.limits import IdleWatch

_BATCH_GRAINS: Final = 16
"""1 MiB of disk: what moves fastest through gRPC."""


class RecoveryService:
    """Handlers by RPC name; gRPC calls them through the edge, which has checked the caller."""

    def __init__(self, vault: Vault, catalog: Catalog, watch: IdleWatch) -> None:
        self._vault = vault
        self._catalog = catalog
        self._watch = watch

    def ListReplicas(self, _request: wire.ListReplicasRequest, call: Call) -> wire.ListReplicasResponse:  # noqa: N802 - the proto's name
        """The tenant's replicas."""
        return wire.ListReplicasResponse(
            replicas=[
                wire.Replica(
                    replica=row.replica,
                    vm_name=row.vm_name,
                    points=row.points,
                    newest=row.newest or 0,
                    newest_time_seconds=row.newest_time or 0,
                    stored_bytes=row.stored_bytes,
                )
                for row in self._catalog.replicas(call.caller.tenant)
            ]
        )

    def ListPoints(self, request: wire.ListPointsRequest, call: Call) -> wire.ListPointsResponse:  # noqa: N802
        """A replica's points."""
        replica = parse_replica(request.replica)
        call.facts["replica"] = replica
        found = self._vault.points(call.caller.tenant, replica)
        if not found:
            raise NotFoundError(
                f"there is no replica {replica} with a point",
                subject=f"replica {replica}",
                next_step="list the replicas that there are",
            )
        return wire.ListPointsResponse(points=[wire_types.point(record) for record in found])

    def ReadDisk(self, request: wire.ReadDiskRequest, call: Call) -> Iterator[wire.ReadFrame]:  # noqa: N802
        """The content of a disk at a point, decrypted; each grain was compared with what was committed."""
        replica, disk = parse_replica(request.replica), parse_disk_key(request.disk)
        with self._vault.view(call.caller.tenant, replica, disk, parse_point(request.point)) as view:
            call.facts.update(replica=replica, disk=disk, point=request.point)
            call.begun()
            yield wire.ReadFrame(opened=wire.ReadOpened(capacity_bytes=view.capacity_bytes))
            sequence = grains = 0
            for records in _records(view):
                call.standing.require()
                self._watch.heard(call.context)
                sequence += 1
                grains += len(records)
                yield wire.ReadFrame(batch=batch_message(Batch(sequence, records)))
            yield wire.ReadFrame(done=shared.WriteDone(batches=sequence, grains=grains))


def _records(view: DiskView) -> Iterator[list[GrainRecord]]:
    scratch = memoryview(bytearray(GRAIN_BYTES - 1))
    for window in view.windows(_BATCH_GRAINS):
        found = view.load(window)
        records = [
            packed_grain(window.first + place, digest(grain), memoryview(grain), scratch)
            for place, grain in enumerate(found)
            if grain is not None
        ]
        if records:
            yield records

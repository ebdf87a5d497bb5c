"""The target's replicas as an operator of the tenant sees them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import grpc

from common.closing import Closing
from common.errors import CertificateError, NotFoundError, PreconditionError, ProtocolError, TargetUnavailableError
from common.grain import grain_count
from common.grain_check import check_grain
from common.ids import DiskKey, PointNumber, ReplicaId, parse_replica
from common.status_map import from_rpc_error
from common.sync import codec
from common.sync.events import Done
from common.sync.machine import Receiver
from common.tls import Identity, channel_credentials, explain_refusal
from common.wire.v1 import recovery_pb2 as wire
from common.wire.v1 import recovery_pb2_grpc as services
from common.wire.v1 import replication_pb2 as shared

_CALL_SECONDS: Final = 30.0
_MOST_BYTES: Final = 1 << 62
"""The window: nothing is acknowledged, so nothing bounds it but the disk."""

_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 4 << 20),
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One disk of one point."""

    replica: ReplicaId
    point: PointNumber
    disk: DiskKey
    capacity_bytes: int


class Archive(Closing):
    """A connection to the target; the caller closes it. Every method may raise what the target refuses with."""

    def __init__(self, address: str, identity: Identity, server_name: str | None = None) -> None:
        self._address, self._identity, self._server_name = address, identity, server_name
        options = [*_OPTIONS, *([("grpc.ssl_target_name_override", server_name)] if server_name else [])]
        self._channel = grpc.secure_channel(address, channel_credentials(identity), options=options)
        self._stub = services.RecoveryStub(self._channel)

    def close(self) -> None:
        """Close the channel."""
        self._channel.close()

    def replicas(self) -> Sequence[wire.Replica]:
        """The tenant's replicas, by VM name."""
        with self._in_our_words():
            return tuple(self._stub.ListReplicas(wire.ListReplicasRequest(), timeout=_CALL_SECONDS).replicas)

    def find(self, wanted: str) -> ReplicaId:
        """The replica whose id, or whose VM's name, is ``wanted``.

        Raises:
            NotFoundError: none is.
            PreconditionError: several VMs bear the name.
        """
        found = [one for one in self.replicas() if wanted in (one.replica, one.vm_name)]
        if not found:
            raise NotFoundError(
                f"the target holds no replica of {wanted}",
                subject=f"vm {wanted}",
                next_step="list them with source-agent replicas",
            )
        if len(found) > 1:
            raise PreconditionError(
                f"{len(found)} replicas are of VMs called {wanted}",
                subject=f"vm {wanted}",
                next_step="name one by its id, which source-agent replicas shows",
            )
        return parse_replica(found[0].replica)

    def points(self, replica: ReplicaId) -> Sequence[shared.Point]:
        """A replica's points, rising; at least one."""
        with self._in_our_words():
            return tuple(self._stub.ListPoints(wire.ListPointsRequest(replica=replica), timeout=_CALL_SECONDS).points)

    def read(self, wanted: Wanted) -> Iterator[tuple[int, bytes | memoryview]]:
        """Grains of a disk at a point that are not zero, rising by index, each compared with its digest.

        Raises:
            ProtocolError: what came is not whole, or was altered on the way.
        """
        request = wire.ReadDiskRequest(replica=wanted.replica, point=wanted.point, disk=wanted.disk)
        machine = Receiver(_MOST_BYTES)
        with self._in_our_words():
            for frame in self._stub.ReadDisk(request):
                match frame.WhichOneof("frame"):
                    case "opened":
                        if frame.opened.capacity_bytes != wanted.capacity_bytes:
                            raise _not_whole("the target gives the disk another size than its point says", wanted)
                        machine.opened(grain_count(wanted.capacity_bytes))
                    case "batch":
                        batch = codec.batch_of(frame.batch)
                        machine.batch(batch)
                        for record in batch.records:
                            plain = check_grain(record)
                            if plain is not None:
                                yield record.grain, plain
                    case "done":
                        machine.done(Done(frame.done.batches, frame.done.grains))
                        machine.finished()
                        return
        raise _not_whole("the target's stream ended before the disk did", wanted)

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            found = from_rpc_error(error, subject=f"target {self._address}")
            if isinstance(found, TargetUnavailableError):
                reason = explain_refusal(self._address, self._identity, self._server_name)
                if isinstance(reason, (CertificateError, TargetUnavailableError)):
                    raise reason from error
            raise found from error


def _not_whole(what: str, wanted: Wanted) -> ProtocolError:
    return ProtocolError(what, subject=f"disk {wanted.disk}", next_step="fetch it again; upgrade the older half")

"""Every RPC as a stranger's client would make it: by its descriptor, with one request that names one object.

``CALLS`` has an entry for each RPC of each service; the matrix fails while one lacks.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

from common.status_map import from_rpc_error
from common.wire.v1 import recovery_pb2 as reading
from common.wire.v1 import replication_pb2 as writing
from source_agent.pairing.enroll import new_key, request_for
from target_appliance.server.rpc_policy import POLICY
from tests.architecture.test_rpc_policy import methods

METHODS = {path: method for path, method in methods().items() if POLICY[path].roles}
"""Those of the data port."""
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
DISK = writing.Disk(
    key=2000, uuid="u", label="Hard disk 1", capacity_bytes=1 << 20, adapter="lsilogic", kind=writing.SYNC_KIND_FULL
)


@dataclass(frozen=True)
class Names:
    """The object that a call names."""

    replica: str
    sync: str


def begin(replica: str, base: int = 0) -> writing.BeginSyncRequest:
    """A sync of one small disk."""
    return writing.BeginSyncRequest(
        protocol_version=1,
        replica=replica,
        vm_name="web01",
        base_point=base,
        kind=writing.SYNC_KIND_FULL,
        disks=[DISK],
        snapshot_time_seconds=1,
        consistency="crash",
    )


ENROLL = "/keysapart.v1.Enrollment/Enroll"
_WRITE, _READ = "/keysapart.v1.Replication/", "/keysapart.v1.Recovery/"

CALLS: dict[str, Callable[[Names], Message]] = {
    f"{_WRITE}DescribeReplica": lambda names: writing.DescribeReplicaRequest(replica=names.replica),
    f"{_WRITE}BeginSync": lambda names: begin(names.replica),
    f"{_WRITE}GetManifest": lambda names: writing.GetManifestRequest(sync=names.sync, disk=2000),
    f"{_WRITE}WriteDisk": lambda names: writing.WriteFrame(open=writing.WriteOpen(sync=names.sync, disk=2000)),
    f"{_WRITE}RenewLease": lambda names: writing.RenewLeaseRequest(sync=names.sync),
    f"{_WRITE}CommitSync": lambda names: writing.CommitSyncRequest(sync=names.sync),
    f"{_WRITE}ResumeSync": lambda names: writing.ResumeSyncRequest(sync=names.sync, replica=names.replica),
    f"{_WRITE}AbortSync": lambda names: writing.AbortSyncRequest(sync=names.sync),
    f"{_WRITE}RenewCertificate": lambda _names: writing.RenewCertificateRequest(request=request_for(new_key())),
    f"{_READ}ListReplicas": lambda _names: reading.ListReplicasRequest(),
    f"{_READ}ListPoints": lambda names: reading.ListPointsRequest(replica=names.replica),
    f"{_READ}ReadDisk": lambda names: reading.ReadDiskRequest(replica=names.replica, point=1, disk=2000),
}


@dataclass(frozen=True)
class Answer:
    """What a caller learns, with ids taken out, so that two objects' answers can be compared."""

    code: grpc.StatusCode
    told: str

    def __str__(self) -> str:
        return f"{self.code.name} {self.told}"


def call(channel: grpc.Channel, path: str, method: MethodDescriptor, request: Message) -> Answer:
    """Make the call and hear it out."""
    answer = message_factory.GetMessageClass(method.output_type)
    shape = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
    stub: Any = getattr(channel, shape)(path, type(request).SerializeToString, answer.FromString)
    try:
        heard = stub(iter([request]) if method.client_streaming else request, timeout=30)
        messages = list(heard) if method.server_streaming else [heard]
    except grpc.RpcError as error:
        failure: Any = error
        found = from_rpc_error(failure, subject="target")
        return Answer(failure.code(), _without_ids(f"{found.reason} {found.subject} {found}"))
    return Answer(grpc.StatusCode.OK, _without_ids(" ".join(_shown(messages))))


def _shown(messages: list[Message]) -> Iterator[str]:
    for message in messages:
        if isinstance(message, writing.DescribeReplicaResponse):
            message.ClearField("time_seconds")
        yield str(message)


def _without_ids(text: str) -> str:
    return UUID.sub("<id>", text)

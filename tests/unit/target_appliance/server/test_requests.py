"""What is no request, and requests that never come: the caller's fault, and nobody else's loss."""

import contextlib
import itertools
import queue
import threading
from collections.abc import Iterator

import grpc
import pytest

from common.clock import SystemClock
from common.errors import LimitExceededError, ProtocolError
from common.status_map import from_rpc_error
from common.tls import channel_credentials, load_identity
from common.wire.v1 import replication_pb2 as wire
from target_appliance.config import Limits
from target_appliance.identity.names import Role
from target_appliance.server.limits import CALLS_PER_TENANT
from target_appliance.server.rpc_policy import POLICY
from tests.fakes.served import Served, served

VM = "11111111-1111-4111-8111-111111111111"
DESCRIBE = "/keysapart.v1.Replication/DescribeReplica"
METHODS = sorted(path for path, row in POLICY.items() if row.roles)
SILENT = 200
_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("requests"), limits=Limits(streams_per_tenant=2, idle_seconds=60)) as serving:
        yield serving


def _channel(server: Served, tenant: str, role: Role = Role.AGENT) -> grpc.Channel:
    files = server.admit(tenant, f"00000000-0000-4000-8000-{next(_numbers):012}", role)
    credentials = channel_credentials(load_identity(files, SystemClock()))
    return grpc.secure_channel(server.address, credentials, [("grpc.use_local_subchannel_pool", 1)])


@pytest.mark.parametrize("data", [b"\xff\xff", b"\x0a\x05abc"], ids=["tag", "cut"])
@pytest.mark.parametrize("path", METHODS)
def test_bytes_that_are_no_request(server: Served, path: str, data: bytes) -> None:
    (role,) = POLICY[path].roles
    with _channel(server, "acme", role) as channel, pytest.raises(grpc.RpcError) as caught:
        list(channel.unary_stream(path)(data, timeout=30))
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS
    assert isinstance(from_rpc_error(caught.value, subject="target"), ProtocolError)


def test_a_call_without_a_request(server: Served) -> None:
    with _channel(server, "acme") as channel, pytest.raises(grpc.RpcError) as caught:
        channel.stream_unary(DESCRIBE)(iter(()), timeout=30)
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS


def test_calls_that_never_say_what_they_want_hold_up_nobody_else(server: Served) -> None:
    over = threading.Event()

    def nothing() -> Iterator[bytes]:
        over.wait(120)
        yield from ()

    with contextlib.ExitStack() as life:
        channels = [life.enter_context(_channel(server, "acme")) for _ in range(2)]
        other = life.enter_context(_channel(server, "rival"))
        life.callback(over.set)
        calls = [channels[number % 2].stream_unary(DESCRIBE).future(nothing()) for number in range(SILENT)]
        life.callback(lambda: [call.cancel() for call in calls])
        ended: queue.Queue[grpc.Future] = queue.Queue()
        for call in calls:
            call.add_done_callback(ended.put)
        for _ in range(SILENT - CALLS_PER_TENANT):
            refused = ended.get(timeout=60)
            assert isinstance(from_rpc_error(refused.exception(), subject="target"), LimitExceededError)

        request = wire.DescribeReplicaRequest(replica=VM).SerializeToString()
        answer = wire.DescribeReplicaResponse.FromString(other.unary_unary(DESCRIBE)(request, timeout=30))
        assert answer.max_streams == 2
        assert ended.empty(), "more calls were refused than are too many"

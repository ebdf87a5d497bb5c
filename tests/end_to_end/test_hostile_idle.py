"""Streams, calls and connections on which nothing happens: they are cut, and cost nobody else anything."""

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.wire.v1 import replication_pb2 as wire
from tests.end_to_end.hostile import IDLE_SECONDS, Client, client, ledger, opening, refused_commit
from tests.end_to_end.idle import CALLS_PER_CONNECTION, idle
from tests.end_to_end.ledger import Ledger

__all__ = ["client", "ledger"]

pytestmark = pytest.mark.lab

IDLE = 200


def test_silent_stream_is_cut(client: Client) -> None:
    sync = client.begin()
    began = time.monotonic()

    def frames() -> Iterator[bytes]:
        yield opening(sync)
        time.sleep(3 * IDLE_SECONDS)  # gRPC pulls on a thread of its own; the call ends before this does

    error = client.write(frames(), seconds=60)
    assert error is not None
    assert error.code() is grpc.StatusCode.CANCELLED
    assert IDLE_SECONDS <= time.monotonic() - began < 3 * IDLE_SECONDS
    refused_commit(client, sync)


def test_idle_connections_are_cut_and_harm_nobody(ledger: Ledger, client: Client) -> None:
    address = ("127.0.0.1", ledger.pair.lab.data_port)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(100)]
        began = time.monotonic()
        client.stub.DescribeReplica(wire.DescribeReplicaRequest(replica=ledger.replica), timeout=5)
        for one in idle:
            with contextlib.suppress(ConnectionResetError):
                while one.recv(4096):
                    pass
        assert time.monotonic() - began < 15, "a handshake that never comes is waited for too long"


def test_another_tenant_syncs_beside_hundreds_that_say_nothing(ledger: Ledger) -> None:
    pair = ledger.pair
    rival = pair.folder / "idle-rival"
    pair.done("tenants", "add", "idle-rival", "--out", rival)
    with idle(pair, rival, IDLE) as held:
        assert held.made == 4 * IDLE + 2 * IDLE // CALLS_PER_CONNECTION
        ledger.write(1 << 18)
        ledger.sync()
        with grpc.insecure_channel(f"127.0.0.1:{pair.lab.health_port}") as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    log = pair.log.read_text()
    assert "calls under way, which is the limit" in log
    assert "streams open, which is the limit" in log


def test_no_certificate_no_call(ledger: Ledger, client: Client) -> None:
    context = ssl.create_default_context(cafile=str(ledger.pair.folder / "agent" / "ca.crt"))
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", ledger.pair.lab.data_port), timeout=20) as plain:
        assert _first_byte(context, plain) == b""


def _first_byte(context: ssl.SSLContext, plain: socket.socket) -> bytes:
    """What the server says first; nothing when it hangs up, politely or not."""
    try:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            return secure.recv(1)
    except (ssl.SSLError, ConnectionResetError):
        return b""

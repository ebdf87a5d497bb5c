"""The data port: a gRPC server over mutual TLS, with every bound set."""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import grpc

from common.errors import BusyError
from common.sync.events import MAX_FRAME_BYTES
from common.wire.v1 import replication_pb2_grpc as services
from target_appliance.server.edge import Edge
from target_appliance.server.replication import ReplicationService

_UNARY_THREADS: Final = 8
"""Threads beyond the streams', so that unary calls are answered while every stream is busy."""

_OPTIONS: Final = (
    # Without it a second process could take half of the connections unnoticed.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_FRAME_BYTES),
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.max_concurrent_streams", 128),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 5),
)


def make_server(
    service: ReplicationService,
    edge: Edge,
    credentials: grpc.ServerCredentials,
    address: str,
    *,
    streams: int,
) -> tuple[grpc.Server, ThreadPoolExecutor]:
    """A server bound to ``address``, not started, and the pool that it runs on; the caller ends both.

    Args:
        service: the handlers.
        edge: stands before them.
        credentials: mutual TLS.
        address: ``host:port``.
        streams: streams that all tenants together may have open: threads are made for so many.

    Raises:
        BusyError: the port is taken, or the address is not this machine's.
    """
    pool = ThreadPoolExecutor(streams + _UNARY_THREADS, "rpc")
    server = grpc.server(pool, interceptors=[edge], options=_OPTIONS, maximum_concurrent_rpcs=streams + _UNARY_THREADS)
    services.add_ReplicationServicer_to_server(service, server)  # type: ignore[no-untyped-call,arg-type,unused-ignore]
    try:
        server.add_secure_port(address, credentials)
    except RuntimeError:
        pool.shutdown()
        raise BusyError(
            f"cannot listen on {address}: the port is in use, or the address is not this machine's",
            subject=f"port {address}",
            next_step="end the other program, or change listen.data in the configuration",
        ) from None
    return server, pool

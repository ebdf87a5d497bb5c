"""The data port: a gRPC server over mutual TLS, with every bound set, from bind to drain."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import grpc

from common.clock import Clock
from common.errors import BusyError
from common.ids import TenantId
from common.sync.events import MAX_FRAME_BYTES
from common.wire.v1 import recovery_pb2_grpc as readers
from common.wire.v1 import replication_pb2_grpc as services
from target_appliance.audit.calls import CallAudit
from target_appliance.audit.recorder import Recorder
from target_appliance.audit.syncs import SyncAudit
from target_appliance.catalog.catalog import Catalog
from target_appliance.config import Limits
from target_appliance.identity.authn import Identity, identify
from target_appliance.identity.authority import Authority
from target_appliance.receive.allowance import Allowance
from target_appliance.receive.desk import SyncDesk
from target_appliance.receive.open_sync import OpenSyncs
from target_appliance.recovery.vault import Vault
from target_appliance.server.credentials import ServerCredentials
from target_appliance.server.edge import Edge, Identify
from target_appliance.server.limits import CALLS_PER_TENANT, IdleWatch, StreamCap
from target_appliance.server.recovery import RecoveryService
from target_appliance.server.registrar import Registrar
from target_appliance.server.replication import ReplicationService
from target_appliance.server.rpc_policy import POLICY

_FULL_TENANTS: Final = 4
"""Tenants that may have all at once that they may have, each stream and call on a thread, and others are served still;
threads are made when they are needed."""
_STREAM_KINDS: Final = sum(row.streams for row in POLICY.values())
_OTHER_THREADS: Final = 8
_DRAIN_SECONDS: Final = 5.0
"""What running calls get to end when the port closes; a sync that is cut begins anew from the last point."""

_OPTIONS: Final = (
    # Without it a second process could take half of the connections unnoticed.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", MAX_FRAME_BYTES),
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.max_concurrent_streams", 128),
    ("grpc.server_handshake_timeout_ms", 5_000),
    # Who is let in by TLS and then calls nothing holds a file. An agent's next call connects anew by itself.
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ("grpc.http2.max_ping_strikes", 5),
)


@dataclass(frozen=True)
class Behind:
    """What the port needs, open; all of it the caller's."""

    vault: Vault
    catalog: Catalog
    authority: Authority
    clock: Clock
    limits: Limits
    park_seconds: float
    """How long a sync whose agent is silent may wait for it."""
    shown: ServerCredentials
    """What clients are shown."""
    recorder: Recorder
    """Of the audit log."""


@dataclass(frozen=True)
class DataPort:
    """An open port."""

    desk: SyncDesk
    port: int


@contextmanager
def data_port(behind: Behind, address: str) -> Iterator[DataPort]:
    """Serve on ``address`` (``host:port``, port 0 for any free one) while the block runs; then drain and close.

    Raises:
        BusyError: the port is taken, or the address is not this machine's.
        CertificateError: the authority cannot issue the server's certificate.
    """
    with ExitStack() as life:
        watch = IdleWatch(behind.clock, behind.limits.idle_seconds)
        watch.start()
        life.callback(watch.stop)
        per_tenant = behind.limits.streams_per_tenant
        syncs = OpenSyncs(behind.clock, behind.catalog.renew)
        allowance = Allowance(behind.catalog, behind.clock)

        told = SyncAudit(behind.recorder)
        desk = SyncDesk(
            behind.vault,
            behind.catalog,
            syncs,
            allowance,
            behind.clock,
            park_seconds=behind.park_seconds,
            committed=told.committed,
            ended=told.ended,
        )
        life.callback(desk.end_all)

        def streams(tenant: TenantId) -> int:
            return allowance.streams(tenant, per_tenant)

        registrar = Registrar(behind.authority, behind.catalog, behind.clock, behind.recorder)
        service = ReplicationService(
            behind.vault,
            behind.catalog,
            syncs,
            desk,
            watch=watch,
            clock=behind.clock,
            streams=streams,
            registrar=registrar,
        )
        cap = StreamCap(streams)
        edge = Edge(_identifier(behind, registrar), cap, watch, behind.clock, CallAudit(behind.recorder))
        threads = _FULL_TENANTS * (_STREAM_KINDS * per_tenant + CALLS_PER_TENANT) + _OTHER_THREADS
        pool = ThreadPoolExecutor(threads, "rpc")
        life.callback(pool.shutdown, cancel_futures=True)
        server = grpc.server(pool, interceptors=[edge], options=_OPTIONS, maximum_concurrent_rpcs=threads)
        services.add_ReplicationServicer_to_server(service, server)  # type: ignore[no-untyped-call,arg-type,unused-ignore]
        readers.add_RecoveryServicer_to_server(RecoveryService(behind.vault, behind.catalog, watch), server)  # type: ignore[no-untyped-call,arg-type,unused-ignore]
        port = _bind(server, address, behind.shown.asking_clients())
        server.start()
        life.callback(lambda: server.stop(_DRAIN_SECONDS).wait())
        yield DataPort(desk, port)


def _bind(server: grpc.Server, address: str, credentials: grpc.ServerCredentials) -> int:
    try:
        return server.add_secure_port(address, credentials)
    except RuntimeError:
        raise BusyError(
            f"cannot listen on {address}: the port is in use, or the address is not this machine's",
            subject=f"port {address}",
            next_step="end the other program, or change listen.data in the configuration",
        ) from None


def _identifier(behind: Behind, registrar: Registrar) -> Identify:
    """Asked at every call, because a connection outlives the moment of its handshake."""

    def who(certificate: bytes) -> Identity:
        identity = identify(certificate, behind.authority.trust, behind.clock.now())
        registrar.admit(identity, certificate)
        return identity

    return who

"""The data port's handlers, from the edge down to a store, without gRPC: a call takes the bytes of its request.

Everything is as ``server.serve`` puts it together but for what would only be slow a hundred thousand times: TLS (the
caller is known), and the audit log's disk.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc

from common.clock import SystemClock
from common.ids import AgentId, TenantId
from common.wire.v1 import recovery_pb2_grpc as readers
from common.wire.v1 import replication_pb2_grpc as services
from target_appliance.audit.log import AuditLog
from target_appliance.audit.recorder import Recorder
from target_appliance.catalog.catalog import Catalog
from target_appliance.identity.authn import Identity
from target_appliance.identity.authority import Authority
from target_appliance.identity.names import Role
from target_appliance.kms.memory import MemoryKms
from target_appliance.receive.allowance import Allowance
from target_appliance.receive.desk import SyncDesk
from target_appliance.receive.open_sync import OpenSyncs
from target_appliance.recovery.vault import Vault
from target_appliance.server.edge import Edge
from target_appliance.server.limits import IdleWatch, StreamCap
from target_appliance.server.recovery import RecoveryService
from target_appliance.server.registrar import Registrar
from target_appliance.server.replication import ReplicationService
from target_appliance.server.rpc_policy import POLICY
from target_appliance.store.port import Store

TENANT = TenantId("acme")
AGENT = AgentId("00000000-0000-4000-8000-00000000000a")


class Aborted(Exception):  # noqa: N818 - what gRPC raises is no error of ours
    """A call's end by a status."""


class Context:
    """gRPC's context, as far as the edge asks it."""

    def __init__(self) -> None:
        self.status: Any = None

    def auth_context(self) -> dict[str, list[bytes]]:
        return {}

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    def is_active(self) -> bool:
        return True

    def cancel(self) -> None:
        raise AssertionError("nothing here is silent")

    def abort_with_status(self, status: Any) -> None:
        self.status = status
        raise Aborted


def _ignored(_entry: object, _what: object) -> None:
    """Nobody is told how syncs end."""


class _Quiet:
    """An audit log that nobody reads."""

    def acting(self, _identity: Identity) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def __call__(self, _call: Any) -> None:
        pass


@dataclass
class Server:
    """The handlers, and what is behind them."""

    vault: Vault
    desk: SyncDesk
    syncs: OpenSyncs
    handlers: dict[str, grpc.RpcMethodHandler] = field(default_factory=dict)
    role: Role = Role.AGENT

    def ask(self, path: str, request: bytes) -> tuple[grpc.StatusCode, list[Any]]:
        """How a call ends, and what it answered; anything but a status is a crash, and is raised."""
        (self.role,) = POLICY[path].roles
        handler, context = self.handlers[path], Context()
        try:
            if handler.response_streaming:
                return grpc.StatusCode.OK, list(handler.stream_stream(iter([request]), context))
            return grpc.StatusCode.OK, [handler.stream_unary(iter([request]), context)]
        except Aborted:
            return context.status.code, []


@contextlib.contextmanager
def handlers(folder: Path, store: Store) -> Iterator[Server]:
    """The handlers over ``store``, while the block runs."""
    clock = SystemClock()
    with Catalog.open(f"sqlite:///{folder / 'catalog.sqlite'}", clock) as catalog:
        catalog.add_tenant(TENANT)
        vault = Vault(store, MemoryKms(), clock)
        syncs, allowance = OpenSyncs(clock, catalog.renew), Allowance(catalog, clock)
        desk = SyncDesk(vault, catalog, syncs, allowance, clock, park_seconds=0, committed=_ignored, ended=_ignored)
        watch = IdleWatch(clock, 60)
        made = Server(vault, desk, syncs)
        edge = Edge(
            lambda _certificate: Identity(TENANT, AGENT, 1, clock.now(), made.role),
            StreamCap(lambda _tenant: 4),
            watch,
            clock,
            _Quiet(),  # type: ignore[arg-type]
        )
        recorder = Recorder(AuditLog(folder / "audit", clock), clock)
        authority = Authority.create(folder / "authority", "keysapart.test", clock)
        service = ReplicationService(
            vault,
            catalog,
            syncs,
            desk,
            watch=watch,
            clock=clock,
            streams=lambda _tenant: 4,
            registrar=Registrar(authority, catalog, clock, recorder),
        )
        services.add_ReplicationServicer_to_server(service, _catching(edge, made))
        readers.add_RecoveryServicer_to_server(RecoveryService(vault, catalog, watch), _catching(edge, made))
        yield made
        desk.end_all()


def _catching(edge: Edge, made: Server) -> Any:
    """A server that keeps the handlers, each behind the edge."""

    def add(service: str, methods: dict[str, grpc.RpcMethodHandler]) -> None:
        for name, handler in methods.items():
            path = f"/{service}/{name}"
            wrapped: Callable[..., Any] = lambda _details, handler=handler: handler  # noqa: E731
            made.handlers[path] = edge.intercept_service(wrapped, SimpleNamespace(method=path))

    return SimpleNamespace(add_generic_rpc_handlers=lambda _handlers: None, add_registered_method_handlers=add)

"""The health port: grpc.health.v1 on a listener and a pool of its own, so that a busy data port cannot silence it.

In the clear, because probes of Kubernetes and load balancers bring no client certificate: keep it on loopback or on a
network of one's own. It tells component names and whether they work, nothing else.
"""

import threading
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import OVERALL_HEALTH, HealthServicer

from common import log
from common.clock import Clock
from common.errors import BusyError
from common.health.checker import Check, Checker

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_CHECK_THREADS = 4
_WATCH_THREADS = 16
_CALLS_AT_ONCE = 64
_GRACE_SECONDS = 1.0
_OPTIONS = (
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 4096),
    ("grpc.max_metadata_size", 8 << 10),
    ("grpc.max_concurrent_streams", 16),
)

_log = log.get("health")


@dataclass(frozen=True)
class HealthPort:
    """An open port."""

    port: int


@contextmanager
def health_port(
    address: str,
    checks: Mapping[str, Check],
    clock: Clock,
    *,
    setting: str,
    apart: Collection[str] = (),
    shown_as: Mapping[str, str] | None = None,
    **pace: float,
) -> Iterator[HealthPort]:
    """Serve on ``address`` (``host:port``, port 0 for any free one) while the block runs.

    Args:
        address: where.
        checks: by the name that logs give; it is the service's, too. The service of the empty name is SERVING while
            all of them are that are not ``apart``.
        clock: see Checker.
        setting: name of the address in the configuration, for who has to change it.
        apart: names of checks that say nothing of the whole.
        shown_as: the service of checks that have none of their own, whose names the port does not tell; it is SERVING
            while all of its checks are.
        pace: ``interval``, ``patience`` and ``tick`` of Checker.

    Raises:
        BusyError: the port is taken, or the address is not this machine's.
    """
    with ExitStack() as life:
        pool, watches = (ThreadPoolExecutor(size, "health-rpc") for size in (_CHECK_THREADS, _WATCH_THREADS))
        for each in (pool, watches):
            life.callback(each.shutdown, cancel_futures=True)
        services = {name: (shown_as or {}).get(name, name) for name in checks}
        servicer = _Watched((OVERALL_HEALTH, *services.values()), watches)
        board = _Board(servicer, services, frozenset(apart))
        server = grpc.server(pool, options=_OPTIONS, maximum_concurrent_rpcs=_CALLS_AT_ONCE)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        try:
            port = server.add_insecure_port(address)
        except RuntimeError:
            raise BusyError(
                f"cannot listen on {address}: the port is in use, or the address is not this machine's",
                subject=f"port {address}",
                next_step=f"end the other program, or change {setting} in the configuration",
            ) from None
        server.start()
        life.callback(lambda: server.stop(_GRACE_SECONDS).wait())
        life.callback(servicer.enter_graceful_shutdown)
        checker = Checker(checks, board.note, clock, **pace)
        checker.start()
        life.callback(checker.stop)
        yield HealthPort(port)


class _Watched(HealthServicer):
    """Keeps nothing of a service that nobody set: the library never forgets a name that was once watched."""

    def __init__(self, services: Collection[str], pool: ThreadPoolExecutor) -> None:
        # Never non-blocking: it would send while it holds its lock. When a watcher hangs up then, gRPC's event
        # thread waits for the lock and the sender for the event thread, so all is frozen (seen with grpcio 1.85).
        super().__init__(experimental_non_blocking=False, experimental_thread_pool=pool)
        self._services = frozenset(services)

    def Watch(  # noqa: N802  the library's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext, *given: Any
    ) -> Any:
        """See HealthServicer. A service that is unknown stays so, and is told once: services are set before serving."""
        if request.service in self._services:
            return super().Watch(request, context, *given)
        return iter((health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN),))


class _Board:
    """What each component's service says, and the whole's. ``services`` has the service of each check."""

    def __init__(self, servicer: HealthServicer, services: Mapping[str, str], apart: frozenset[str]) -> None:
        self._servicer = servicer
        self._lock = threading.Lock()
        self._apart = apart
        self._failing = set(services)
        self._service = services
        for service in (OVERALL_HEALTH, *self._service.values()):
            servicer.set(service, _NOT_SERVING)

    def note(self, name: str, trouble: str | None) -> None:
        """See checker.Report."""
        with self._lock:
            if trouble is None:
                self._failing.discard(name)
                _log.info("component works", component=name)
            else:
                self._failing.add(name)
                _log.warning("component does not work", component=name, cause=trouble)
            service = self._service[name]
            failing = {self._service[one] for one in self._failing}
            self._servicer.set(service, _NOT_SERVING if service in failing else _SERVING)
            self._servicer.set(OVERALL_HEALTH, _NOT_SERVING if self._failing - self._apart else _SERVING)

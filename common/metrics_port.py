"""A server's Prometheus metrics on a port of its own, in the clear: for loopback, or a network of one's own."""

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.registry import Collector

from common.address import HostPort, split
from common.errors import BusyError


@contextmanager
def metrics_port(address: HostPort, metrics: Collector, prefix: str, *, setting: str) -> Iterator[int]:
    """Serve the metrics, and those of the process, on ``address`` while the block runs; the port.

    Args:
        address: where.
        metrics: asked at every scrape.
        prefix: of the process's own metrics.
        setting: name of the address in the configuration, for who has to change it.

    Raises:
        BusyError: the port is taken, or the address is not this machine's.
    """
    registry = CollectorRegistry()
    registry.register(metrics)
    ProcessCollector(namespace=prefix, registry=registry)
    host, port = split(address)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError:
        raise BusyError(
            f"cannot listen on {address}: the port is in use, or the address is not this machine's",
            subject=f"port {address}",
            next_step=f"end the other program, or change {setting} in the configuration",
        ) from None
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

"""The appliance's life: load, check, open what holds state, serve, and close in reverse on SIGTERM."""

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Final

import grpc

from common import log
from common.clock import Clock, SystemClock
from target_appliance.catalog.catalog import Catalog
from target_appliance.config import ApplianceConfig
from target_appliance.identity.authn import Identity, identify
from target_appliance.identity.authority import Authority
from target_appliance.kms import registry
from target_appliance.receive.open_sync import OpenSyncs
from target_appliance.recovery.vault import Vault
from target_appliance.server.edge import Edge
from target_appliance.server.limits import IdleWatch, StreamCap
from target_appliance.server.replication import ReplicationService
from target_appliance.server.serve import make_server
from target_appliance.store.posix import PosixStore

_log = log.get("appliance")

_DRAIN_SECONDS: Final = 5.0
"""What running calls get to end after SIGTERM; a sync that is cut begins anew from the last committed point."""
_SWEEP_SECONDS: Final = 5.0
_STREAM_TENANTS: Final = 4
"""Tenants that may use their full cap of streams at once: each stream holds a thread."""


def serve(config: ApplianceConfig, clock: Clock | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then stop cleanly.

    Raises:
        KeysapartError: the appliance cannot start; one sentence says why.
    """
    clock = clock or SystemClock()
    stopping = threading.Event()
    with ExitStack() as life:
        life.enter_context(_signals(stopping))
        authority = Authority.open(config.authority_dir, config.trust_domain, clock)
        kms = registry.create(config.kms, clock)
        life.callback(kms.close)
        store = PosixStore(config.store_dir)
        life.callback(store.close)
        catalog = life.enter_context(Catalog.open(config.catalog, clock))
        vault = Vault(store, kms, clock)
        _recover(vault, catalog)

        streams = config.limits.streams_per_tenant * _STREAM_TENANTS
        watch = IdleWatch(clock, config.limits.idle_seconds)
        watch.start()
        life.callback(watch.stop)
        syncs = OpenSyncs(clock, catalog.renew)
        service = ReplicationService(vault, catalog, syncs, watch, clock, streams=config.limits.streams_per_tenant)
        life.callback(service.end_all)
        edge = Edge(_identifier(authority, catalog, clock), StreamCap(config.limits.streams_per_tenant), watch)
        own = authority.server(config.listen.names)
        credentials = grpc.ssl_server_credentials(
            [(own.key_pem, own.certificate_pem)], root_certificates=authority.ca_pem, require_client_auth=True
        )
        server, pool = make_server(service, edge, credentials, str(config.listen.data), streams=streams)
        life.callback(_stop, server, pool)
        server.start()
        _log.info("serving", data=str(config.listen.data), kms=kms.name, store=str(config.store_dir))
        while not stopping.wait(_SWEEP_SECONDS):
            service.end_silent()
        _log.info("stopping")
    _log.info("stopped")


def _identifier(authority: Authority, catalog: Catalog, clock: Clock) -> Callable[[bytes], Identity]:
    def who(certificate: bytes) -> Identity:
        identity = identify(certificate, authority.trust, clock.now())
        catalog.admit(identity)
        return identity

    return who


def _recover(vault: Vault, catalog: Catalog) -> None:
    """After a crash: the catalog follows the store, and what unfinished syncs staged goes.

    Only this process serves the store, so no staged sync can be alive yet, whatever its lease says.
    """
    changes = catalog.reconcile(vault)
    if changes.added or changes.removed:
        _log.info("catalog brought up to date", added=len(changes.added), removed=len(changes.removed))
    for tenant in vault.tenants():
        for replica in vault.replicas(tenant):
            for name in vault.sweep_staging(tenant, replica):
                _log.info("staging folder of an unfinished sync removed", tenant=tenant, replica=replica, sync=name)


def _stop(server: grpc.Server, pool: ThreadPoolExecutor) -> None:
    server.stop(_DRAIN_SECONDS).wait()
    pool.shutdown(cancel_futures=True)


@contextmanager
def _signals(stopping: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set ``stopping`` for the length of the block."""
    kept = {
        number: signal.signal(number, lambda _number, _frame: stopping.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)

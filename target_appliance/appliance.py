"""The appliance's life: load, check, open what holds state, serve, and close in reverse on SIGTERM."""

import fcntl
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final

from common import log
from common.address import HostPort, split
from common.clock import Clock, SystemClock
from common.errors import BusyError, InternalError
from common.hardening import harden
from common.health.serve import health_port
from common.metrics_port import metrics_port
from common.stop_signals import stopped_by_signals
from target_appliance.audit.event import Event, Fact, What
from target_appliance.audit.keys import AuditedKms
from target_appliance.audit.log import APPLIANCE, AuditLog
from target_appliance.audit.recorder import Recorder
from target_appliance.audit.syncs import SyncAudit
from target_appliance.catalog.catalog import Catalog
from target_appliance.config import ApplianceConfig
from target_appliance.identity.authority import Authority
from target_appliance.kms import registry
from target_appliance.metrics import PREFIX, Metrics
from target_appliance.reclaiming import Reclaiming, settle_all
from target_appliance.recovery.vault import Vault
from target_appliance.retention.prune import Pruner
from target_appliance.retention.steward import Steward, retaining
from target_appliance.scrub.background import scrubbing
from target_appliance.server.credentials import ServerCredentials
from target_appliance.server.enrollment import enrollment_port
from target_appliance.server.registrar import Registrar
from target_appliance.server.serve import Behind, data_port
from target_appliance.store.posix import PosixStore
from target_appliance.store.probe import probe

_log = log.get("appliance")

_SWEEP_SECONDS: Final = 5.0
"""Between two looks for syncs whose agents are silent."""


def _no_failpoint(_step: str) -> None:
    """What a failpoint does outside of tests."""


def serve(
    config: ApplianceConfig, clock: Clock | None = None, failpoint: Callable[[str], None] = _no_failpoint
) -> None:
    """Serve until SIGTERM or SIGINT, then stop cleanly.

    Args:
        config: the appliance's.
        clock: the machine's by default.
        failpoint: called with each step of a commit when it is done; a test ends the process there.

    Raises:
        KeysapartError: the appliance cannot start; one sentence says why.
    """
    clock = clock or SystemClock()
    stopping = threading.Event()
    with ExitStack() as life:
        life.enter_context(stopped_by_signals(stopping))
        harden()
        authority = Authority.open(config.authority_dir, config.trust_domain, clock)
        life.enter_context(_only_one(config.state_dir))
        recorder = life.enter_context(_audited(config, clock))
        kms = registry.directory(config, clock).each(lambda one: AuditedKms(one, recorder.log))
        life.callback(kms.close)
        store = PosixStore(config.store_dir)
        life.callback(store.close)
        catalog = life.enter_context(Catalog.open(config.catalog, clock))
        probe(store)
        vault = Vault(store, kms, clock, failpoint, keep_seconds=config.keys.keep_minutes * 60)
        life.callback(vault.keyring.close)
        park_seconds = config.sync.park_hours * 3600
        _recover(vault, catalog, SyncAudit(recorder), keep_parked=park_seconds > 0)
        shown = ServerCredentials(authority, config.listen.names, clock)
        behind = Behind(vault, catalog, authority, clock, config.limits, park_seconds, shown, recorder)
        if config.listen.enrollment is not None:
            registrar = Registrar(authority, catalog, clock, recorder)
            asking_nobody = shown.asking_nobody()
            life.enter_context(enrollment_port(registrar, config.listen.enrollment, asking_nobody, config.state_dir))
        port = life.enter_context(data_port(behind, config.listen.data))
        apart = (*kms.named_probes, "certificate")
        checks = {
            **kms.probes(),
            "store": lambda: probe(store),
            "catalog": catalog.probe,
            "replication": lambda: _require_listening(config.listen.data),
            "certificate": shown.check,
        }
        # One service for all: a KMS may bear its tenant's name, and whoever reaches the port may ask.
        shown_as = dict.fromkeys(kms.named_probes, "kms-named")
        life.enter_context(
            health_port(config.listen.health, checks, clock, setting="listen.health", apart=apart, shown_as=shown_as)
        )
        steward = life.enter_context(_retaining(vault, catalog, recorder, clock))
        life.enter_context(Reclaiming(vault, catalog))
        if config.listen.metrics is not None:
            metrics = Metrics(catalog, store, shown, clock, steward, vault.time)
            life.enter_context(metrics_port(config.listen.metrics, metrics, PREFIX, setting="listen.metrics"))
        life.enter_context(scrubbing(vault, catalog, recorder, clock, config.scrub))
        _log.info(
            "serving",
            data=config.listen.data,
            health=config.listen.health,
            enrollment=config.listen.enrollment,
            metrics=config.listen.metrics,
            kms=kms.default.name,
            store=str(config.store_dir),
        )
        while not stopping.wait(_SWEEP_SECONDS):
            port.desk.settle_silent()
            vault.wipe_old_keys()
            recorder.settle()
        _log.info("stopping")
    _log.info("stopped")


@contextmanager
def _audited(config: ApplianceConfig, clock: Clock) -> Iterator[Recorder]:
    """The audit log, with a line for the start and one for the stop.

    Raises:
        StoreError, StoreFullError: it cannot be written.
    """
    recorder = Recorder(AuditLog(config.audit_dir, clock, head_every=config.audit.head_every), clock)
    facts: dict[str, Fact] = {"version": version("keysapart"), "data": config.listen.data}
    recorder.record(Event(What.SERVE_STARTED, APPLIANCE, "appliance", facts=facts), strict=True)
    try:
        yield recorder
    finally:
        recorder.record(Event(What.SERVE_STOPPED, APPLIANCE, "appliance"), strict=False)
        recorder.settle(last=True)


@contextmanager
def _only_one(state_dir: Path) -> Iterator[None]:
    """Hold the appliance's state for this process: a second one would sweep the first one's staging folders.

    Raises:
        BusyError: another process serves already.
    """
    handle = os.open(state_dir / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with ExitStack() as held:
        held.callback(os.close, handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(
                f"another target-appliance process serves {state_dir}",
                subject=f"folder {state_dir}",
                next_step="end that process first, or give this one a state_dir and a store_dir of its own",
            ) from None
        yield


def _retaining(vault: Vault, catalog: Catalog, recorder: Recorder, clock: Clock) -> AbstractContextManager[Steward]:
    stopping = threading.Event()
    pruner = Pruner(vault, catalog, lambda event: recorder.record(event, strict=True), APPLIANCE, stopping.wait)
    return retaining(vault, pruner, clock, stopping)


def _require_listening(address: HostPort) -> None:
    """Return if the data port takes connections. Raises InternalError."""
    try:
        socket.create_connection(split(address), timeout=2.0).close()
    except OSError as error:
        raise InternalError(
            f"the data port {address} takes no connections ({error.strerror or error})",
            subject=f"port {address}",
            next_step="restart the appliance",
        ) from error


def _recover(vault: Vault, catalog: Catalog, told: SyncAudit, *, keep_parked: bool) -> None:
    """After a crash: the catalog follows the store, and what unfinished syncs staged goes, unless they may go on.

    Only this process serves the store, so no staged sync can be alive yet, whatever its lease says.
    """
    settle_all(vault)
    changes = catalog.reconcile(vault)
    told.found(changes)
    if changes.found:
        _log.info("points of the store were put into the catalog", points=len(changes.found))
    for row in changes.gone:
        _log.warning(
            "a point that was committed is gone from the store",
            tenant=row.tenant,
            replica=row.replica,
            point=row.number,
        )
    for (tenant, replica, point), cause in changes.damaged.items():
        _log.warning("a point's record is damaged", tenant=tenant, replica=replica, point=point, cause=cause)
    for tenant in vault.tenants():
        for replica in vault.replicas(tenant):
            keep = vault.syncs.parked(tenant, replica) if keep_parked else ()
            for name in vault.syncs.sweep(tenant, replica, keep):
                _log.info("staging folder of an unfinished sync removed", tenant=tenant, replica=replica, sync=name)

"""The daemon's life: connect, take the state folder, answer, go round, close in reverse."""

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from common import log
from common.clock import Clock
from common.errors import InternalError, KeysapartError
from common.health.checker import Check
from common.health.serve import health_port
from common.metrics_port import metrics_port
from common.tls import load_identity
from source_agent import in_flight
from source_agent.agent import opened
from source_agent.config import AgentConfig
from source_agent.daemon import door, status
from source_agent.daemon.certificate import CertificateWatch
from source_agent.daemon.counts import PREFIX, Metrics
from source_agent.daemon.events import Reload, Terminate
from source_agent.daemon.loop import BEAT_SECONDS, Loop, Sync
from source_agent.daemon.notify import Notify
from source_agent.daemon.settings import Settings
from source_agent.daemon.tidy import tidying
from source_agent.daemon.watch import InventoryWatch, target_watch
from source_agent.needs import Agent
from source_agent.pairing.renewal import renewed
from source_agent.plan import Kind
from source_agent.progress import Progress
from source_agent.replicate import sync_vm
from source_agent.report import SyncReport
from source_agent.schedule.explain import Running
from source_agent.stop import Stop
from source_agent.stream.channel import Bearer
from source_agent.stream.pace import Pace

_HUNG_SECONDS = 12 * BEAT_SECONDS
_log = log.get("run")


def run(path: Path, config: AgentConfig, clock: Clock) -> None:
    """Keep the RPOs of all VMs that the configuration selects, until SIGTERM or SIGINT.

    Raises:
        KeysapartError: the vCenter cannot be logged in to, or a file, port or folder is not as it should be.
    """
    settings = Settings(path, config)
    bearer = Bearer(load_identity(config.target.files, clock))
    notify = Notify()
    with ExitStack() as life:
        life.enter_context(door.only_one(config.state_dir))
        pace = Pace(clock, lambda: settings.week.rate(clock.now()))
        agent = life.enter_context(opened(config, clock, pace, bearer=bearer))
        # By moref: a name would have every sync list all VMs.
        agent = replace(agent, agent_vm=agent.vsphere.vm(agent.agent_vm).moref)
        moment = status.Moment(clock.monotonic(), clock.now())
        inventory_soon, probe_soon = threading.Event(), threading.Event()

        def look() -> None:
            inventory_soon.set()
            probe_soon.set()

        loop = Loop(
            syncing(agent),
            settings,
            clock,
            known=status.known(door.load(config.state_dir) or {}, moment, in_flight.begun(config.state_dir)),
            save=lambda document: door.save(config.state_dir, document),
            beat=notify.beat,
            look=look,
            parked=lambda: status.parked(in_flight.begun(config.state_dir), clock.now(), agent.park_seconds),
            tidy=life.enter_context(tidying(agent)),
        )
        watch = InventoryWatch(
            agent.vsphere,
            agent.target,
            clock,
            loop.put,
            own=agent.agent_vm,
            state_dir=config.state_dir,
            tags=settings.tags,
            wanted=loop.wanted,
            every=lambda: settings.inventory_every,
            soon=inventory_soon,
        )
        life.enter_context(_signals(loop, notify))
        certificate = CertificateWatch(lambda: renewed(config, clock), bearer, agent.target.redial, clock)
        life.enter_context(door.answering(config.state_dir, lambda: _document(loop, certificate)))
        _observe(life, config, loop, clock, certificate)
        life.enter_context(certificate.running())
        life.enter_context(watch.running())
        life.enter_context(target_watch(agent.target.trouble, loop.put, probe_soon))
        notify.tell(READY="1", STATUS=f"{len(settings.policies)} policies")
        _log.info("running", policies=len(settings.policies), state_dir=str(config.state_dir))
        if not settings.policies:
            _log.warning("nothing is protected: the configuration has no [[protect]]")
        loop.run()
        notify.tell(STOPPING="1")
    _log.info("stopped")


def syncing(agent: Agent) -> Sync:
    """How the loop syncs a VM: over a connection of its own, since a sync whose link breaks gives up its connection."""

    def sync(one: Running, stop: Stop, progress: Progress) -> SyncReport:
        # What an earlier process left goes on first: a compare that is due is due afterwards, too.
        left = in_flight.load(agent.state_dir, one.vm.replica) is not None
        requested = Kind.COMPARE if one.compare and not left else None
        with closing(agent.target.another()) as target:
            mine = replace(agent, target=target, stop=stop)
            return sync_vm(mine, one.vm.moref, requested=requested, progress=progress)

    return sync


def _document(loop: Loop, certificate: CertificateWatch) -> dict[str, Any]:
    found = loop.document()
    found["agent"].update(certificate.told())
    return found


def _observe(life: ExitStack, config: AgentConfig, loop: Loop, clock: Clock, certificate: CertificateWatch) -> None:
    if config.observe.metrics is not None:
        metrics = Metrics(loop.document, loop.counts, certificate.days_left, certificate.failing)
        life.enter_context(metrics_port(config.observe.metrics, metrics, PREFIX, setting="observe.metrics"))
    if config.observe.health is not None:
        asked = {**checks(loop, clock), "certificate": certificate.check}
        life.enter_context(
            health_port(config.observe.health, asked, clock, setting="observe.health", apart=("certificate",))
        )


def checks(loop: Loop, clock: Clock) -> dict[str, Check]:
    """What the health port tells: whether the sites answer, and whether the loop goes round."""

    def site(name: str) -> Check:
        def check() -> None:
            trouble: KeysapartError | None = loop.sites.trouble(name)
            if trouble is not None:
                raise trouble

        return check

    def goes_round() -> None:
        silent = clock.monotonic() - loop.beaten
        if silent > _HUNG_SECONDS:
            raise InternalError(
                f"the scheduler has not come round for {silent:.0f} seconds",
                subject="schedule",
                next_step="restart the agent and report it with the log",
            )

    return {"vcenter": site("vcenter"), "target": site("target"), "schedule": goes_round}


@contextmanager
def _signals(loop: Loop, notify: Notify) -> Iterator[None]:
    """SIGTERM and SIGINT stop, SIGTERM so that syncs are parked; SIGHUP reads the configuration again."""

    def end(number: int, _frame: FrameType | None) -> None:
        notify.tell(STOPPING="1")
        loop.put(Terminate(signal.Signals(number).name, parks=number == signal.SIGTERM))

    def again(_number: int, _frame: FrameType | None) -> None:
        loop.put(Reload())

    handlers: dict[int, Any] = {signal.SIGTERM: end, signal.SIGINT: end, signal.SIGHUP: again}
    kept = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)

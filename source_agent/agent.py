"""The agent's life: load, check, connect, do one command's work, close in reverse."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from common import log
from common.clock import Clock
from common.errors import CertificateError, InterruptedSyncError
from common.hardening import harden
from common.ids import AgentId, TenantId, parse_agent, parse_tenant
from common.tls import Identity, load_identity
from source_agent.config import AgentConfig
from source_agent.needs import Agent
from source_agent.readers import open_reader
from source_agent.stop import Stop
from source_agent.stream.channel import Bearer, Target
from source_agent.stream.pace import Pace
from source_agent.vsphere.connection import VCenter, connect

_log = log.get("agent")


def agent_id(identity: Identity) -> AgentId:
    """This agent's id, which its certificate states. Raises CertificateError."""
    return name_of(identity)[1]


def name_of(identity: Identity) -> tuple[TenantId, AgentId]:
    """Tenant and agent that the certificate states: ``spiffe://domain/tenant/NAME/agent/ID``.

    Raises:
        CertificateError: the certificate is not an agent's.
    """
    for uri in identity.uris:
        match uri.removeprefix("spiffe://").split("/"):
            case [_, "tenant", tenant, "agent", text]:
                return parse_tenant(tenant), parse_agent(text)
    raise CertificateError(
        f"{identity.files.certificate} is not the certificate of an agent",
        subject=f"file {identity.files.certificate}",
        next_step="pair this agent with source-agent pair",
    )


def open_vcenter(config: AgentConfig, clock: Clock) -> VCenter:
    """A logged-in vCenter; the caller closes it."""
    return connect(config.vcenter.settings, clock)


@contextmanager
def opened(
    config: AgentConfig,
    clock: Clock,
    pace: Pace | None = None,
    stop: Stop | None = None,
    bearer: Bearer | None = None,
) -> Iterator[Agent]:
    """Everything a sync needs, connected; closed in reverse however the block ends.

    Args:
        config: the agent's.
        clock: for everything that waits or tells the time.
        pace: the bandwidth limit; None for the configuration's.
        stop: what ends the sync that runs with it; None for one that nobody asks.
        bearer: who the agent says it is; None for what the files say.

    Raises:
        KeysapartError: a file, the vCenter or the target is not as it should be.
    """
    with ExitStack() as life:
        harden()
        bearer = bearer or Bearer(load_identity(config.target.files, clock))
        own_id = agent_id(bearer.identity)
        vcenter = open_vcenter(config, clock)
        life.callback(vcenter.close)
        reader, choice = open_reader(config, config.vcenter.settings, vcenter, own_id, clock)
        life.callback(reader.close)
        week = config.bandwidth.week()
        pace = pace or Pace(clock, lambda: week.rate(clock.now()))
        target = Target(config.target.address, bearer, config.target.server_name, pace)
        life.callback(target.close)
        yield Agent(
            agent_id=own_id,
            vsphere=vcenter,
            reader=reader,
            target=target,
            clock=clock,
            state_dir=config.state_dir,
            agent_vm=config.reader.agent_vm,
            quiesce=config.snapshot.quiesce == "filesystem",
            quiesce_fallback=config.snapshot.quiesce_fallback,
            limits=config.snapshot.limits,
            stop=stop or Stop(),
            parallel_disks=config.sync.parallel_disks,
            transport=choice.transport,
            data_port=config.reader.data_port,
            unreachable_seconds=config.target.unreachable_minutes * 60,
            park_seconds=config.snapshot.park_seconds,
        )


@contextmanager
def interruptible(*, parks: bool) -> Iterator[Stop]:
    """The first SIGTERM or SIGINT ends the block with InterruptedSyncError; later ones wait for its clean-up.

    Yields what the sync in the block is to be asked with. SIGTERM parks it, if ``parks``: a service manager or a
    machine that goes down will come back. SIGINT never does: a person who stops what he began wants nothing left. A
    second signal ends a sync that is being parked.
    """
    stop = Stop()
    asked = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        error = InterruptedSyncError(
            f"{signal.Signals(number).name} ended the command",
            subject="source-agent",
            next_step="nothing was committed; run it again when you like",
        )
        stop.mark(error, parks=parks and not asked and number == signal.SIGTERM)
        if asked:
            _log.warning("already stopping: the snapshot is being removed")
            return
        asked = True
        raise error

    kept = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)

"""Every check, over everything that can be reached."""

import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from common.clock import Clock
from common.errors import CertificateError, ConfigError, KeysapartError
from common.hardening import harden
from common.ids import AgentId, ReplicaId
from common.tls import Identity, load_identity
from source_agent.agent import agent_id, open_vcenter
from source_agent.config import AgentConfig
from source_agent.disk_read.choice import choose
from source_agent.disk_read.vddk.install import find_library
from source_agent.doctor import judge
from source_agent.doctor.report import Found, Report, failure, report
from source_agent.lock import held
from source_agent.pairing.renewal import require_long_life
from source_agent.preflight import Finding, Probe, Severity, check, gather, ports
from source_agent.privileges import HOTADD
from source_agent.schedule import tags
from source_agent.schedule.policy import Policy
from source_agent.stream.channel import Target
from source_agent.vsphere.certificate import expiry
from source_agent.vsphere.port import VmInfo, VSphere

_REISSUE = "it is renewed by run, or before a sync; if not, pair again with a line of target-appliance agents add"
_RENEW = "renew the vCenter's certificate"


def examine(config: AgentConfig, clock: Clock, names: Sequence[str]) -> Report:
    """Look at the agent, the target, the vCenter, and the VMs ``names``, all of them when empty; changes nothing."""
    harden()
    found: list[Found] = []
    identity = _identity(config, clock, found)
    found += _state_folder(config)
    transport = _transport(config, found)
    found += _vcenter_certificate(config, clock)
    vms = 0
    try:
        vcenter = open_vcenter(config, clock)
    except KeysapartError as error:
        found.append(failure(error, "vcenter"))
    else:
        try:
            own = None if identity is None else agent_id(identity)
            of_site, vms = _site(_Login(config, vcenter, own, transport, Probe(clock)), clock, names)
            found += of_site
        except KeysapartError as error:
            found.append(failure(error, "vcenter"))
        finally:
            vcenter.close()
    if identity is not None:
        found += _target(config, identity, clock)
    return report(found, vms)


def _identity(config: AgentConfig, clock: Clock, found: list[Found]) -> Identity | None:
    """The agent's certificate, when it is of use."""
    try:
        identity = load_identity(config.target.files, clock)
        agent_id(identity)
    except KeysapartError as error:
        found.append(failure(error))
        return None
    found += judge.certificate("the agent's", identity.not_after, clock.now(), _REISSUE, checked=True)
    try:
        require_long_life(identity.certificate, clock.now())
    except CertificateError as error:
        found.append(Found(Finding(Severity.WARN, "agent-renewal", error.message, error.next_step), "agent"))
    return identity


def _transport(config: AgentConfig, found: list[Found]) -> str:
    """How disks would be read; hot-add's rules hold where that cannot be told."""
    section = config.reader
    try:
        choice = choose(section.transport, find_library(section.vddk_dir), section.vddk_dir)
    except KeysapartError as error:
        found.append(failure(error))
        return HOTADD
    found.append(Found(Finding(Severity.NOTE, "transport", choice.why, "nothing to do")))
    return choice.transport


def _state_folder(config: AgentConfig) -> Iterator[Found]:
    folder = config.state_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"doctor")
    except OSError as error:
        refusal = ConfigError(
            f"the state folder {folder} cannot be written ({error.strerror})",
            subject=f"folder {folder}",
            next_step="make it writable for the agent's user, or set another state_dir",
        )
        yield failure(refusal)


def _vcenter_certificate(config: AgentConfig, clock: Clock) -> Iterator[Found]:
    vcenter = config.vcenter
    try:
        not_after = expiry(vcenter.host, vcenter.port, vcenter.timeout_seconds)
    except OSError:
        return  # the login will say why
    trusted = vcenter.ca_file is not None
    yield from judge.certificate("the vCenter's", not_after, clock.now(), _RENEW, checked=trusted)


def _target(config: AgentConfig, identity: Identity, clock: Clock) -> Iterator[Found]:
    """Whether the target would accept a sync: it is there, knows the agent, and the tenant's KEK is Active."""
    target = Target(config.target.address, identity, config.target.server_name)
    try:
        told = target.describe(ReplicaId(str(uuid.uuid4())))
        if told.time_seconds:
            yield from judge.clock("target", datetime.fromtimestamp(told.time_seconds, UTC), clock.now())
    except KeysapartError as error:
        yield failure(error, "target")
    finally:
        target.close()


@dataclass(frozen=True, slots=True)
class _Login:
    """A logged-in vCenter, and who looks at it for what."""

    config: AgentConfig
    vsphere: VSphere
    own: AgentId | None
    transport: str
    probe: Probe


def _site(login: _Login, clock: Clock, names: Sequence[str]) -> tuple[list[Found], int]:
    """The vCenter's clock and the VMs, and how many of those."""
    found: list[Found] = []
    vsphere = login.vsphere
    before = clock.now()
    theirs = vsphere.now()
    found += judge.clock("vCenter", theirs, before + (clock.now() - before) / 2)
    everything = vsphere.vms()
    agent_vm = vsphere.vm(login.config.reader.agent_vm)
    if names:
        wanted = []
        for name in names:
            try:
                wanted.append(vsphere.vm(name))
            except KeysapartError as error:
                found.append(failure(error, name))
    elif login.config.protect:
        policies = [section.policy() for section in login.config.protect]
        chosen = _selected(vsphere, policies, found)
        wanted = [vm for vm in everything if vm.moref in chosen]
    else:
        wanted = [vm for vm in everything if vm.moref != agent_vm.moref]
    near = _near(login, wanted)
    for vm in wanted:
        found += _vm(login, vm, agent_vm, near.get(vm.moref, ()))
    if login.own is not None:
        found += judge.left_behind(everything, login.own, held(login.config.state_dir))
    return found, len(wanted)


def _selected(vsphere: VSphere, policies: Sequence[Policy], found: list[Found]) -> frozenset[str]:
    """Morefs of the VMs that some policy is for; of those without a tag only, where tags cannot be read."""
    asked = tags.wanted(policies)
    try:
        tagged = vsphere.tagged(asked)
    except KeysapartError as error:
        found.append(failure(error, "tags"))
        return judge.selected(vsphere.placements(), [one for one in policies if one.tag is None])[0]
    found += judge.tags(tags.missing(asked, tagged))
    chosen, unused = judge.selected(tags.bearing(vsphere.placements(), tagged), policies)
    found += unused
    return chosen


def _near(login: _Login, vms: Sequence[VmInfo]) -> Mapping[str, tuple[str, ...]]:
    """Hosts that may come to run each VM, where the transport dials hosts; all of them are tried at once."""
    dialled = ports(login.transport, login.config.reader.data_port)
    if not dialled or not vms:
        return {}
    near = login.vsphere.possible_hosts()
    login.probe.shut((host, port) for vm in vms for host in near.get(vm.moref, ()) for port in dialled)
    return near


def _vm(login: _Login, vm: VmInfo, agent_vm: VmInfo, near: Sequence[str]) -> Iterator[Found]:
    quiesce = login.config.snapshot.quiesce == "filesystem"
    own = login.own or AgentId("")
    try:
        setting = gather(
            login.vsphere,
            vm,
            agent_vm,
            own,
            quiesce=quiesce,
            probe=login.probe,
            transport=login.transport,
            data_port=login.config.reader.data_port,
            others=near,
        )
    except KeysapartError as error:
        yield failure(error, vm.name)
        return
    for finding in check(vm, setting):
        yield Found(finding, vm.name)

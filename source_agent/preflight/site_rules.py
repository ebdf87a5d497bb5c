"""Rules about what stands around the VM: the agent's own VM, the login, host, datastores, key provider. Pure."""

from collections.abc import Iterator

from source_agent.preflight.finding import Finding, Rule, Setting, note, refuse, warn
from source_agent.privileges import HOT_ADDING
from source_agent.trust import bad_host
from source_agent.vsphere.port import KeyProvider, VmInfo


def _agent_encrypted(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    agent = setting.agent_vm
    encrypted = vm.encrypted or any(disk.encrypted for disk in vm.disks)
    if setting.transport in HOT_ADDING and agent is not None and encrypted and not agent.encrypted:
        yield refuse(
            "agent-not-encrypted",
            f"{vm.name} is encrypted and the agent's VM {agent.name} is not, so its disks cannot be hot-added",
            "encrypt the agent's VM with any key of this vCenter",
        )


def _itself(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    if setting.transport in HOT_ADDING and setting.agent_vm is not None and setting.agent_vm.moref == vm.moref:
        yield refuse(
            "agent-itself", f"{vm.name} is the agent's own VM", "run another agent in another VM to protect this one"
        )


def _privileges(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    for missing in setting.missing:
        yield refuse(
            "privilege",
            f"the login cannot {missing.purpose} for {vm.name}, it lacks {missing.words}",
            "give the agent's user the role that source-agent role create makes",
        )


def _host(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    if bad_host(vm.host_version, vm.host_build):
        yield warn(
            "known-bad-host",
            f"{vm.name} is on ESXi {vm.host_version} build {vm.host_build}, whose change lists leave writes out, "
            "so each sync reads every disk in full",
            "update the host",
        )


def _ports(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    for shut in setting.shut:
        remedy = f"let the agent's VM through to port {shut.port} of {shut.host}"
        answer = f"takes no connection at port {shut.port} ({shut.why})"
        if setting.around is None or shut.host != setting.around.host:
            yield warn("other-host-port", f"{shut.host}, which VMs may be moved to, {answer}", remedy)
        elif shut.needed:
            yield refuse(
                "host-port", f"{shut.host}, the host of {vm.name}, {answer}, and its disks are read through it", remedy
            )
        else:
            yield warn("host-port", f"{shut.host}, the host of {vm.name}, {answer}", remedy)


def _lockout(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    if setting.around is not None and setting.around.relocation_disabled:
        yield warn(
            "lockout",
            f"{vm.name} cannot be moved by vMotion (RelocateVM_Task is disabled), as a crashed backup leaves it",
            "end the backup that locked it, or run it again so that it can take its lock away",
        )


def _vsan(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    if setting.around is not None and setting.around.vsan_datastores:
        yield note(
            "vsan",
            f"{vm.name} has files on vSAN ({', '.join(setting.around.vsan_datastores)}), whose own encryption of data "
            "at rest lies below the VM, so its disks are read the same way with it and without",
        )


_PROVIDERS = {
    KeyProvider.STANDARD: "a standard key provider (KMIP)",
    KeyProvider.NATIVE: "the vCenter's native key provider",
    KeyProvider.TRUST_AUTHORITY: "a vSphere Trust Authority",
    KeyProvider.UNKNOWN: "a key provider that this login may not see",
}


def _key_provider(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    if setting.around is not None and setting.around.key_provider in _PROVIDERS:
        provider = _PROVIDERS[setting.around.key_provider]
        yield note("key-provider", f"{vm.name} is encrypted with keys of {provider}; none of them leaves this site")


RULES: tuple[Rule, ...] = (
    _privileges,
    _agent_encrypted,
    _itself,
    _ports,
    _host,
    _lockout,
    _vsan,
    _key_provider,
)

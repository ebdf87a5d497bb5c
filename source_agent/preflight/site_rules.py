"""Rules about what stands around the VM: the agent's own VM, the login. Pure."""

from collections.abc import Iterator

from source_agent.preflight.finding import Finding, Rule, Setting, refuse
from source_agent.vsphere.port import VmInfo


def _agent_encrypted(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    agent = setting.agent_vm
    encrypted = vm.encrypted or any(disk.encrypted for disk in vm.disks)
    if setting.transport == "hotadd" and agent is not None and encrypted and not agent.encrypted:
        yield refuse(
            "agent-not-encrypted",
            f"{vm.name} is encrypted and the agent's VM {agent.name} is not, so its disks cannot be hot-added",
            "encrypt the agent's VM with any key of this vCenter",
        )


def _itself(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    if setting.transport == "hotadd" and setting.agent_vm is not None and setting.agent_vm.moref == vm.moref:
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


RULES: tuple[Rule, ...] = (
    _privileges,
    _agent_encrypted,
    _itself,
)

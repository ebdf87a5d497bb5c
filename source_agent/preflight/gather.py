"""What preflight's rules look at, read from the vCenter; nothing is changed."""

from common.ids import AgentId
from source_agent.preflight.finding import Setting
from source_agent.privileges import HOTADD, grouped, needs, wanted
from source_agent.vsphere.port import VmInfo, VSphere
from source_agent.vsphere.snapshots import leftovers


def gather(
    vsphere: VSphere, vm: VmInfo, agent_vm: VmInfo, agent: AgentId, *, quiesce: bool, transport: str = HOTADD
) -> Setting:
    """The setting of a sync of ``vm``.

    Raises:
        KeysapartError: as VSphere's methods do.
    """
    encrypted = vm.encrypted or any(disk.encrypted for disk in vm.disks)
    needed = needs(transport, encrypted=encrypted)
    return Setting(
        transport=transport,
        agent_vm=agent_vm,
        quiesce=quiesce,
        own_snapshots=frozenset(found.moref for found in leftovers(vm, agent)),
        missing=grouped(needed, vsphere.lacking(vm.moref, agent_vm.moref, wanted(needed))),
    )

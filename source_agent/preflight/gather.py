"""What preflight's rules look at, read from the vCenter; nothing is changed."""

from collections.abc import Sequence

from common.ids import AgentId
from source_agent.preflight.finding import Setting, Shut
from source_agent.preflight.probe import Probe
from source_agent.privileges import HOTADD, VDDK_HOTADD, VDDK_NBDSSL, grouped, needs, wanted
from source_agent.vsphere.port import VmInfo, VSphere
from source_agent.vsphere.snapshots import leftovers

API_PORT = 443

DATA_PORT = 902
"""Where a host hands out the data of disks, unless the site changed it."""


def ports(transport: str, data_port: int = DATA_PORT) -> tuple[int, ...]:
    """Ports of ESXi hosts that a transport dials. Hot-add alone dials the vCenter alone, where the login was."""
    if transport == VDDK_NBDSSL:
        return API_PORT, data_port
    return (API_PORT,) if transport == VDDK_HOTADD else ()


def gather(
    vsphere: VSphere,
    vm: VmInfo,
    agent_vm: VmInfo,
    agent: AgentId,
    *,
    quiesce: bool,
    probe: Probe,
    transport: str = HOTADD,
    data_port: int = DATA_PORT,
    others: Sequence[str] = (),
) -> Setting:
    """The setting of a sync of ``vm``.

    Args:
        vsphere: the vCenter.
        vm: the VM.
        agent_vm: the agent's own.
        agent: whose leftovers are ours.
        quiesce: the guest would be asked to flush.
        probe: dials the ports of the VM's host.
        transport: how its disks would be read.
        data_port: of each ESXi host.
        others: hosts that may come to run the VM; their ports are dialled, too.

    Raises:
        KeysapartError: as VSphere's methods do.
    """
    encrypted = vm.encrypted or any(disk.encrypted for disk in vm.disks)
    around = vsphere.surroundings(vm.moref)
    near = [host for host in dict.fromkeys((around.host, *others)) if host]
    shut = probe.shut((host, port) for host in near for port in ports(transport, data_port))
    needed = needs(transport, encrypted=encrypted)
    return Setting(
        transport=transport,
        agent_vm=agent_vm,
        quiesce=quiesce,
        own_snapshots=frozenset(found.moref for found in leftovers(vm, agent)),
        missing=grouped(needed, vsphere.lacking(vm.moref, agent_vm.moref, wanted(needed))),
        around=around,
        shut=tuple(Shut(host, port, why, needed=port == data_port) for (host, port), why in shut.items()),
    )

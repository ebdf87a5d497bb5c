"""What preflight's rules look at, read from the vCenter; nothing is changed."""

from collections.abc import Callable, Iterable

from common.ids import AgentId
from source_agent.preflight.finding import Setting
from source_agent.preflight.probe import unreachable
from source_agent.privileges import HOTADD, THROUGH_VDDK, grouped, needs, wanted
from source_agent.vsphere.port import VmInfo, VSphere
from source_agent.vsphere.snapshots import leftovers

HOST_PORTS = (443, 902)
"""Of each ESXi host, for VDDK: its API, and disk data."""

Probe = Callable[[str, Iterable[int]], tuple[str, ...]]


def gather(
    vsphere: VSphere,
    vm: VmInfo,
    agent_vm: VmInfo,
    agent: AgentId,
    *,
    quiesce: bool,
    transport: str = HOTADD,
    probe: Probe = unreachable,
) -> Setting:
    """The setting of a sync of ``vm``.

    Raises:
        KeysapartError: as VSphere's methods do.
    """
    encrypted = vm.encrypted or any(disk.encrypted for disk in vm.disks)
    around = vsphere.surroundings(vm.moref)
    dialled = HOST_PORTS if transport in THROUGH_VDDK and around.host else ()
    needed = needs(transport, encrypted=encrypted)
    return Setting(
        transport=transport,
        agent_vm=agent_vm,
        quiesce=quiesce,
        own_snapshots=frozenset(found.moref for found in leftovers(vm, agent)),
        missing=grouped(needed, vsphere.lacking(vm.moref, agent_vm.moref, wanted(needed))),
        around=around,
        unreachable=probe(around.host, dialled),
    )

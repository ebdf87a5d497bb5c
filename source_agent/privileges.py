"""Which vCenter privileges the agent needs, for what, and on which object: the one table. Pure.

Preflight asks for them, ``source-agent role create`` grants them, ``docs/privileges.md`` explains them.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from source_agent.vsphere.port import Lacking, Place

HOTADD, VDDK_NBDSSL, VDDK_HOTADD = "hotadd", "vddk-nbdssl", "vddk-hotadd"
TRANSPORTS = (HOTADD, VDDK_NBDSSL, VDDK_HOTADD)

HOT_ADDING = frozenset({HOTADD, VDDK_HOTADD})
"""Transports that attach disks to the agent's own VM."""
THROUGH_VDDK = frozenset({VDDK_NBDSSL, VDDK_HOTADD})
"""Transports that dial each VM's ESXi host: for data, or for the locks of a hot-add."""

_ALL = frozenset(TRANSPORTS)


@dataclass(frozen=True, slots=True)
class Need:
    """One privilege on one kind of object."""

    purpose: str
    """What cannot be done without it, an infinitive clause."""
    privilege: str
    place: Place
    transports: frozenset[str]
    encrypted_only: bool = False
    """Needed for encrypted VMs only."""


SEE = "see the VM and the folder it is in"
TRACK = "switch change tracking on"
SNAPSHOT = "take and remove snapshots"
READ = "read changed blocks"
READ_ENCRYPTED = "read encrypted disks"
ATTACH = "attach disks to the agent's VM"
ATTACH_ENCRYPTED = "attach encrypted disks to the agent's VM"
VDDK_ACCESS = "read disks through VDDK"
LOCK = "keep the VM from moving while it is read"

NEEDS: tuple[Need, ...] = (
    Need(SEE, "System.View", Place.FOLDER, _ALL),
    Need(TRACK, "VirtualMachine.Config.ChangeTracking", Place.VM, _ALL),
    Need(SNAPSHOT, "VirtualMachine.State.CreateSnapshot", Place.VM, _ALL),
    Need(SNAPSHOT, "VirtualMachine.State.RemoveSnapshot", Place.VM, _ALL),
    Need(READ, "VirtualMachine.Provisioning.DiskRandomRead", Place.VM, _ALL),
    Need(READ, "Datastore.Browse", Place.DATASTORE, _ALL),
    Need(READ_ENCRYPTED, "Cryptographer.Access", Place.VM, _ALL, encrypted_only=True),
    Need(ATTACH, "VirtualMachine.Config.AddExistingDisk", Place.AGENT_VM, HOT_ADDING),
    Need(ATTACH, "VirtualMachine.Config.AddNewDisk", Place.AGENT_VM, HOT_ADDING),
    Need(ATTACH, "VirtualMachine.Config.RemoveDisk", Place.AGENT_VM, HOT_ADDING),
    Need(ATTACH, "VirtualMachine.Config.Resource", Place.AGENT_VM, HOT_ADDING),
    Need(ATTACH, "VirtualMachine.Config.Settings", Place.AGENT_VM, HOT_ADDING),
    Need(ATTACH, "Datastore.AllocateSpace", Place.DATASTORE, HOT_ADDING),
    Need(ATTACH_ENCRYPTED, "Cryptographer.AddDisk", Place.AGENT_VM, HOT_ADDING, encrypted_only=True),
    Need(VDDK_ACCESS, "VirtualMachine.Config.DiskLease", Place.VM, THROUGH_VDDK),
    Need(VDDK_ACCESS, "VirtualMachine.Provisioning.GetVmFiles", Place.VM, THROUGH_VDDK),
    Need(VDDK_ACCESS, "Sessions.ValidateSession", Place.ROOT, THROUGH_VDDK),
    Need(LOCK, "Global.DisableMethods", Place.ROOT, THROUGH_VDDK),
    Need(LOCK, "Global.EnableMethods", Place.ROOT, THROUGH_VDDK),
)


@dataclass(frozen=True, slots=True)
class Missing:
    """What cannot be done, and the privileges that lack for it."""

    purpose: str
    lacking: tuple[Lacking, ...]

    @property
    def words(self) -> str:
        """``privilege, privilege on VM web01; …``."""
        where: dict[str, list[str]] = {}
        for one in self.lacking:
            where.setdefault(one.entity, []).append(one.privilege)
        return "; ".join(f"{', '.join(ids)} on {entity}" for entity, ids in where.items())


def needs(transport: str, *, encrypted: bool) -> tuple[Need, ...]:
    """What a sync of one VM needs over ``transport``."""
    return tuple(one for one in NEEDS if transport in one.transports and (encrypted or not one.encrypted_only))


def wanted(needed: Iterable[Need]) -> dict[Place, frozenset[str]]:
    """The privileges by the object they are needed on."""
    found: dict[Place, frozenset[str]] = {}
    for one in needed:
        found[one.place] = found.get(one.place, frozenset()) | {one.privilege}
    return found


def grouped(needed: Iterable[Need], lacking: Collection[Lacking]) -> tuple[Missing, ...]:
    """What lacks, by purpose, in the table's order."""
    found: dict[str, list[Lacking]] = {}
    for need in needed:
        hits = [one for one in lacking if (one.privilege, one.place) == (need.privilege, need.place)]
        if hits:
            found.setdefault(need.purpose, []).extend(hits)
    return tuple(Missing(purpose, tuple(hits)) for purpose, hits in found.items())


def role(transport: str) -> tuple[Need, ...]:
    """What the role of an agent holds: encrypted VMs included. ``System`` privileges are in every role."""
    return tuple(one for one in needs(transport, encrypted=True) if not one.privilege.startswith("System."))

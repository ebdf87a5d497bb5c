"""Which VMs stand in the lab, and why each is there."""

import uuid
from dataclasses import dataclass

MIB = 1 << 20
_NAMESPACE = uuid.UUID("1f6f1b52-0d6f-4cbb-9d0c-5a1e9f1f6a10")


@dataclass(frozen=True, slots=True)
class DiskSpec:
    """A virtual disk: device key, size, and what lies behind it (flat, independent or physical-rdm)."""

    key: int
    size: int
    kind: str = "flat"


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """A VM. ``refused`` says why it cannot be protected; None for those that can."""

    name: str
    disks: tuple[DiskSpec, ...]
    encrypted: bool = False
    hardware: str = "vmx-19"
    tracking: bool = True
    agent: bool = False
    controllers: int = 1
    snapshot: str = ""
    refused: str | None = None


def machines(disk_mib: int, more: int = 0) -> tuple[MachineSpec, ...]:
    """All VMs; the first disk of those that can be protected has ``disk_mib`` MiB.

    ``more`` VMs beside them are called many001 and on, each with one disk of 128 KiB.
    """
    small = (DiskSpec(2000, MIB),)
    return (
        # The second disk ends in the middle of a grain.
        MachineSpec("web01", (DiskSpec(2000, disk_mib * MIB), DiskSpec(2001, 24 * MIB + 5 * 512)), encrypted=True),
        MachineSpec("plain01", (DiskSpec(2000, disk_mib * MIB),)),
        MachineSpec("agent-vm", (DiskSpec(2000, MIB),), encrypted=True, agent=True, controllers=2),
        MachineSpec("legacy01", small, hardware="vmx-04", tracking=False, refused="no change tracking"),
        MachineSpec("rdm01", (*small, DiskSpec(2001, MIB, "physical-rdm")), refused="physical raw device mapping"),
        MachineSpec("indep01", (*small, DiskSpec(2001, MIB, "independent")), refused="independent disk"),
        MachineSpec("snapped01", small, snapshot="before the upgrade", refused="has a snapshot, tracking is off"),
        *(MachineSpec(f"many{number:03d}", (DiskSpec(2000, MIB // 8),)) for number in range(1, more + 1)),
    )


def instance_uuid(name: str) -> str:
    """The same for the same name, in every lab."""
    return str(uuid.uuid5(_NAMESPACE, name))

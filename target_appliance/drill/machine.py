"""qemu's command line for a drill. Pure: what the machine is made of in, words out."""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PROGRAM: Final = "qemu-system-x86_64"
UEFI_CODE: Final = "/usr/share/OVMF/OVMF_CODE_4M.fd"
UEFI_VARIABLES: Final = "/usr/share/OVMF/OVMF_VARS_4M.fd"

# By the vSphere type of the controller. Where qemu has no such one, guests know AHCI.
_ADAPTERS: Final = {
    "ParaVirtualSCSIController": ("pvscsi", "scsi-hd"),
    "VirtualLsiLogicSASController": ("mptsas1068", "scsi-hd"),
}
_AHCI: Final = ("ich9-ahci", "ide-hd")
_AHCI_PORTS: Final = 6
# What a guest may make of a flaw in qemu: no new programs, no other rights.
_SANDBOX: Final = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


class Firmware(enum.StrEnum):
    """What starts the guest."""

    BIOS = "bios"
    UEFI = "uefi"


class Accelerator(enum.StrEnum):
    """What runs the guest's code."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True)
class DrillDisk:
    """A disk of the guest's."""

    name: str
    """Of its export."""
    controller: str
    """vSphere's type."""
    bus: int
    unit: int


@dataclass(frozen=True, slots=True)
class Machine:
    """What the guest gets."""

    firmware: Firmware
    memory_mib: int
    processors: int
    disks: tuple[DrillDisk, ...]


@dataclass(frozen=True, slots=True)
class Handles:
    """Descriptors that qemu inherits."""

    monitor: int
    overlays: tuple[int, ...]
    """One for each disk, in order: memory that takes what the guest writes."""
    variables: int | None
    """Memory with UEFI's variables."""


def command(machine: Machine, accelerator: Accelerator, handles: Handles) -> list[str]:
    """The whole command line; the machine is stopped until the monitor starts it, and its serial port is stdout."""
    # A guest that resets or ends itself stops, and did not come up; qemu that ends means that it does not work here.
    words = [PROGRAM, "-nodefaults", "-no-user-config", "-S", "-no-reboot", "-no-shutdown", "-sandbox", _SANDBOX]
    words += ["-accel", accelerator, "-cpu", "host" if accelerator is Accelerator.KVM else "max"]
    words += ["-machine", "q35,dump-guest-core=off", "-m", str(machine.memory_mib), "-smp", str(machine.processors)]
    words += ["-nic", "none", "-vga", "std", "-display", "none"]
    words += ["-chardev", "stdio,id=serial,signal=off", "-serial", "chardev:serial"]
    words += ["-chardev", f"socket,id=monitor,fd={handles.monitor}", "-mon", "chardev=monitor,mode=control"]
    if machine.firmware is Firmware.UEFI:
        words += ["-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={UEFI_CODE}"]
        words += ["-drive", f"if=pflash,unit=1,format=raw,file={path_of(handles.variables or 0)}"]
    return words + _disks(machine.disks, handles.overlays)


def path_of(handle: int) -> str:
    """The name under which a process opens a descriptor that it inherited."""
    return f"/proc/self/fd/{handle}"


def _disks(disks: Sequence[DrillDisk], overlays: Sequence[int]) -> list[str]:
    words: list[str] = []
    buses: dict[tuple[str, int], str] = {}
    ports = 0
    for number, (disk, overlay) in enumerate(zip(disks, overlays, strict=True)):
        adapter, kind = _ADAPTERS.get(disk.controller, _AHCI)
        port = ports % _AHCI_PORTS
        key = (adapter, disk.bus if kind == "scsi-hd" else ports // _AHCI_PORTS)
        ports += kind == "ide-hd"
        if key not in buses:
            buses[key] = f"bus{len(buses)}"
            words += ["-device", f"{adapter},id={buses[key]}"]
        words += ["-drive", f"if=none,id=disk{number},format=qcow2,cache=unsafe,file={path_of(overlay)}"]
        place = f"bus={buses[key]}.0,scsi-id={disk.unit}" if kind == "scsi-hd" else f"bus={buses[key]}.{port}"
        words += ["-device", f"{kind},drive=disk{number},{place},bootindex={number}"]
    return words

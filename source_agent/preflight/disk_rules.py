"""Rules about a VM's disks, each naming its remedy. Pure."""

from collections.abc import Iterator

from common.grain import MAX_CAPACITY_BYTES
from source_agent.preflight.finding import Finding, Rule, Setting, refuse
from source_agent.privileges import HOT_ADDING
from source_agent.vsphere.port import Backing, DiskInfo, VmInfo

SECTOR_BYTES = 512
_TIB = 1 << 40


def _disk(disk: DiskInfo) -> str:
    return f"{disk.label or 'disk'} (key {disk.key})"


def _no_disks(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    if not vm.disks:
        yield refuse("no-disks", f"{vm.name} has no virtual disk", "choose another VM, there is nothing to replicate")


def _independent(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    for disk in vm.disks:
        if disk.independent and disk.backing is not Backing.PHYSICAL_RDM:  # those have a rule and a remedy of their own
            yield refuse(
                "independent-disk",
                f"{_disk(disk)} of {vm.name} is independent, so snapshots leave it out",
                "set the disk's mode to dependent while the VM is powered off",
            )


def _backing(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    for disk in vm.disks:
        if disk.backing is Backing.PHYSICAL_RDM:
            yield refuse(
                "physical-rdm",
                f"{_disk(disk)} of {vm.name} is a raw device mapping in physical mode, so snapshots leave it out",
                "change the mapping to virtual mode or migrate it to a virtual disk",
            )
        if disk.backing is Backing.OTHER:
            yield refuse(
                "unknown-backing",
                f"{_disk(disk)} of {vm.name} has a backing that cannot be read block by block",
                "migrate it to a virtual disk on a datastore",
            )


def _virtual_rdm(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    for disk in vm.disks:
        if disk.backing is Backing.VIRTUAL_RDM and setting.transport in HOT_ADDING:
            yield refuse(
                "virtual-rdm",
                f"{_disk(disk)} of {vm.name} is a raw device mapping, which cannot be hot-added",
                "migrate it to a virtual disk on a datastore",
            )


def _shared_bus(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    for disk in vm.disks:
        if disk.shared_bus:
            yield refuse(
                "shared-bus",
                f"{_disk(disk)} of {vm.name} is shared between VMs, so a snapshot of one is not consistent",
                "set bus sharing and the disk's multi-writer flag to none, or exclude the VM",
            )


def _ide(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    for disk in vm.disks:
        if disk.adapter == "ide" and setting.transport in HOT_ADDING:
            yield refuse(
                "ide-disk",
                f"{_disk(disk)} of {vm.name} is on an IDE controller, which hot-add does not support",
                "move the disk to a SCSI, SATA or NVMe controller",
            )


def _sectors(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    for disk in vm.disks:
        if disk.capacity_bytes <= 0 or disk.capacity_bytes % SECTOR_BYTES:
            yield refuse(
                "capacity-sectors",
                f"{_disk(disk)} of {vm.name} has {disk.capacity_bytes} bytes, not a whole number of sectors",
                f"grow the disk to a multiple of {SECTOR_BYTES} bytes",
            )


def _large(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    for disk in vm.disks:
        if disk.capacity_bytes > MAX_CAPACITY_BYTES:
            yield refuse(
                "capacity-limit",
                f"{_disk(disk)} of {vm.name} is larger than {MAX_CAPACITY_BYTES // _TIB} TiB",
                "split the data over smaller disks",
            )


RULES: tuple[Rule, ...] = (
    _no_disks,
    _independent,
    _backing,
    _virtual_rdm,
    _shared_bus,
    _ide,
    _sectors,
    _large,
)

"""Can this VM be protected: one rule a function, each naming its remedy. Pure.

A finding either refuses the sync or warns. ``check`` runs every rule, so that a user sees all of them at once.
"""

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from common.errors import PreconditionError
from common.grain import MAX_CAPACITY_BYTES
from source_agent.vsphere.port import Backing, DiskInfo, VmInfo

SECTOR_BYTES = 512
_OLDEST_HARDWARE = 7
_TIB = 1 << 40
_UPGRADE = "upgrade the VM's hardware compatibility"


class Severity(enum.StrEnum):
    """What a finding means for the sync."""

    REFUSE = "refuse"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason against, or a caveat."""

    severity: Severity
    rule: str
    """Short stable name, for machines."""
    sentence: str
    remedy: str
    """What to do about it, an imperative clause."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the sync would use, as far as the rules care."""

    transport: str = "hotadd"
    agent_vm: VmInfo | None = None
    """The agent's own VM, which disks are hot-added to; None when it is not known yet."""
    quiesce: bool = False
    own_snapshots: frozenset[str] = frozenset()
    """Morefs of leftovers of ours: they are removed before the sync, so they do not count."""


_Rule = Callable[[VmInfo, Setting], Iterator[Finding]]


def _refuse(rule: str, sentence: str, remedy: str) -> Finding:
    return Finding(Severity.REFUSE, rule, sentence, remedy)


def _warn(rule: str, sentence: str, remedy: str) -> Finding:
    return Finding(Severity.WARN, rule, sentence, remedy)


def _disk(disk: DiskInfo) -> str:
    return f"{disk.label or 'disk'} (key {disk.key})"


def _template(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    if vm.template:
        yield _refuse("template", f"{vm.name} is a template", "convert it to a virtual machine")


def _hardware(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    if vm.hardware_version < _OLDEST_HARDWARE:
        yield _refuse(
            "hardware-version",
            f"{vm.name} has virtual hardware version {vm.hardware_version}, change tracking needs {_OLDEST_HARDWARE}",
            _UPGRADE,
        )


def _tracking(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    if not vm.tracking_supported:
        yield _refuse(
            "tracking-unsupported",
            f"{vm.name} does not support changed-block tracking",
            _UPGRADE if vm.hardware_version < _OLDEST_HARDWARE else "move the VM to a host that supports it",
        )


def _no_disks(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    if not vm.disks:
        yield _refuse("no-disks", f"{vm.name} has no virtual disk", "choose another VM, there is nothing to replicate")


def _independent(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    for disk in vm.disks:
        if disk.independent and disk.backing is not Backing.PHYSICAL_RDM:  # those have a rule and a remedy of their own
            yield _refuse(
                "independent-disk",
                f"{_disk(disk)} of {vm.name} is independent, so snapshots leave it out",
                "set the disk's mode to dependent while the VM is powered off",
            )


def _backing(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    for disk in vm.disks:
        if disk.backing is Backing.PHYSICAL_RDM:
            yield _refuse(
                "physical-rdm",
                f"{_disk(disk)} of {vm.name} is a raw device mapping in physical mode, so snapshots leave it out",
                "change the mapping to virtual mode or migrate it to a virtual disk",
            )
        if disk.backing is Backing.OTHER:
            yield _refuse(
                "unknown-backing",
                f"{_disk(disk)} of {vm.name} has a backing that cannot be read block by block",
                "migrate it to a virtual disk on a datastore",
            )


def _virtual_rdm(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    for disk in vm.disks:
        if disk.backing is Backing.VIRTUAL_RDM and setting.transport == "hotadd":
            yield _refuse(
                "virtual-rdm",
                f"{_disk(disk)} of {vm.name} is a raw device mapping, which cannot be hot-added",
                "migrate it to a virtual disk on a datastore",
            )


def _shared_bus(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    for disk in vm.disks:
        if disk.shared_bus:
            yield _refuse(
                "shared-bus",
                f"{_disk(disk)} of {vm.name} is shared between VMs, so a snapshot of one is not consistent",
                "set bus sharing and the disk's multi-writer flag to none, or exclude the VM",
            )


def _ide(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    for disk in vm.disks:
        if disk.adapter == "ide" and setting.transport == "hotadd":
            yield _refuse(
                "ide-disk",
                f"{_disk(disk)} of {vm.name} is on an IDE controller, which hot-add does not support",
                "move the disk to a SCSI, SATA or NVMe controller",
            )


def _sectors(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    for disk in vm.disks:
        if disk.capacity_bytes <= 0 or disk.capacity_bytes % SECTOR_BYTES:
            yield _refuse(
                "capacity-sectors",
                f"{_disk(disk)} of {vm.name} has {disk.capacity_bytes} bytes, not a whole number of sectors",
                f"grow the disk to a multiple of {SECTOR_BYTES} bytes",
            )


def _large(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    for disk in vm.disks:
        if disk.capacity_bytes > MAX_CAPACITY_BYTES:
            yield _refuse(
                "capacity-limit",
                f"{_disk(disk)} of {vm.name} is larger than {MAX_CAPACITY_BYTES // _TIB} TiB",
                "split the data over smaller disks",
            )


def _snapshots(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    foreign = [found.name for found in vm.snapshots if found.moref not in setting.own_snapshots]
    if not foreign:
        return
    if not vm.tracking_enabled:
        yield _refuse(
            "snapshots-before-tracking",
            f"change tracking of {vm.name} is off and cannot be switched on while it has snapshots "
            f"({', '.join(foreign)})",
            "delete the VM's snapshots",
        )
    else:
        yield _warn(
            "foreign-snapshots",
            f"{vm.name} has snapshots ({', '.join(foreign)}), so each sync reads every disk in full",
            "delete the snapshots when they are no longer needed",
        )


def _consolidation(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    if vm.consolidation_needed:
        yield _warn(
            "consolidation-needed",
            f"the disks of {vm.name} need consolidation, an earlier snapshot was not removed cleanly",
            "consolidate the VM's disks in the vCenter",
        )


def _vtpm(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    if vm.has_vtpm:
        yield _warn(
            "vtpm",
            f"{vm.name} has a virtual TPM, whose secrets are in its NVRAM and are not replicated",
            "keep recovery keys of the guest's disk encryption at hand, a recovered VM will ask for them",
        )


def _agent_encrypted(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    agent = setting.agent_vm
    encrypted = vm.encrypted or any(disk.encrypted for disk in vm.disks)
    if setting.transport == "hotadd" and agent is not None and encrypted and not agent.encrypted:
        yield _refuse(
            "agent-not-encrypted",
            f"{vm.name} is encrypted and the agent's VM {agent.name} is not, so its disks cannot be hot-added",
            "encrypt the agent's VM with any key of this vCenter",
        )


def _itself(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    if setting.transport == "hotadd" and setting.agent_vm is not None and setting.agent_vm.moref == vm.moref:
        yield _refuse(
            "agent-itself", f"{vm.name} is the agent's own VM", "run another agent in another VM to protect this one"
        )


def _quiesce(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    if setting.quiesce and vm.encrypted:
        yield _warn(
            "quiesce-encrypted",
            f"{vm.name} is encrypted, so quiescing reaches the file systems and not the applications",
            "let applications flush with scripts of the guest's own, or accept file-system consistency",
        )


_RULES: tuple[_Rule, ...] = (
    _template,
    _hardware,
    _tracking,
    _no_disks,
    _independent,
    _backing,
    _virtual_rdm,
    _shared_bus,
    _ide,
    _sectors,
    _large,
    _snapshots,
    _agent_encrypted,
    _itself,
    _consolidation,
    _vtpm,
    _quiesce,
)


def check(vm: VmInfo, setting: Setting) -> tuple[Finding, ...]:
    """All findings, refusals first."""
    found = [finding for rule in _RULES for finding in rule(vm, setting)]
    return tuple(sorted(found, key=lambda finding: finding.severity is not Severity.REFUSE))


def require(vm: VmInfo, findings: tuple[Finding, ...]) -> None:
    """Refuse the VM when a finding does.

    Raises:
        PreconditionError: naming every refusal and its remedy.
    """
    refusals = [finding for finding in findings if finding.severity is Severity.REFUSE]
    if refusals:
        raise PreconditionError(
            "; ".join(finding.sentence for finding in refusals),
            subject=f"vm {vm.name}",
            next_step="; ".join(dict.fromkeys(finding.remedy for finding in refusals)),
        )

"""Rules about the VM itself, each naming its remedy. Pure."""

from collections.abc import Iterator

from source_agent.preflight.finding import Finding, Rule, Setting, refuse, warn
from source_agent.vsphere.port import VmInfo

_OLDEST_HARDWARE = 7
_UPGRADE = "upgrade the VM's hardware compatibility"


def _template(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    if vm.template:
        yield refuse("template", f"{vm.name} is a template", "convert it to a virtual machine")


def _hardware(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    if vm.hardware_version < _OLDEST_HARDWARE:
        yield refuse(
            "hardware-version",
            f"{vm.name} has virtual hardware version {vm.hardware_version}, change tracking needs {_OLDEST_HARDWARE}",
            _UPGRADE,
        )


def _tracking(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    if not vm.tracking_supported:
        yield refuse(
            "tracking-unsupported",
            f"{vm.name} does not support changed-block tracking",
            _UPGRADE if vm.hardware_version < _OLDEST_HARDWARE else "move the VM to a host that supports it",
        )


def _snapshots(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    foreign = [found.name for found in vm.snapshots if found.moref not in setting.own_snapshots]
    if not foreign:
        return
    if not vm.tracking_enabled:
        yield refuse(
            "snapshots-before-tracking",
            f"change tracking of {vm.name} is off and cannot be switched on while it has snapshots "
            f"({', '.join(foreign)})",
            "delete the VM's snapshots",
        )
    else:
        yield warn(
            "foreign-snapshots",
            f"{vm.name} has snapshots ({', '.join(foreign)}), so each sync reads every disk in full",
            "delete the snapshots when they are no longer needed",
        )


def _consolidation(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    if vm.consolidation_needed:
        yield warn(
            "consolidation-needed",
            f"the disks of {vm.name} need consolidation, an earlier snapshot was not removed cleanly",
            "consolidate the VM's disks in the vCenter",
        )


def _vtpm(vm: VmInfo, _: Setting) -> Iterator[Finding]:
    if vm.has_vtpm:
        yield warn(
            "vtpm",
            f"{vm.name} has a virtual TPM, whose secrets are in its NVRAM and are not replicated, so a recovered VM "
            "has lost what its guest sealed there, such as BitLocker's keys",
            "keep recovery keys of the guest's disk encryption at hand, a recovered VM will ask for them",
        )


def _quiesce(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    if setting.quiesce and vm.encrypted:
        yield warn(
            "quiesce-encrypted",
            f"{vm.name} is encrypted, so quiescing reaches the file systems and not the applications",
            "let applications flush with scripts of the guest's own, or accept file-system consistency",
        )


def _tools(vm: VmInfo, setting: Setting) -> Iterator[Finding]:
    if setting.quiesce and setting.around is not None and not setting.around.tools_running:
        yield warn(
            "quiesce-without-tools",
            f"VMware Tools do not run in {vm.name}, so nobody flushes its file systems and its points are "
            "crash-consistent",
            "start VMware Tools in the guest, or set quiesce to none",
        )


RULES: tuple[Rule, ...] = (
    _template,
    _hardware,
    _tracking,
    _snapshots,
    _consolidation,
    _vtpm,
    _quiesce,
    _tools,
)

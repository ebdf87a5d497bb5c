"""What ``source-agent inventory`` shows of a VM, ready for JSON. Pure."""

from dataclasses import asdict, dataclass

from source_agent.vsphere.port import VmInfo


@dataclass(frozen=True, slots=True)
class DiskRow:
    """One disk of a VM."""

    key: int
    label: str
    capacity_bytes: int
    encrypted: bool
    backing: str
    backing_path: str
    controller: str
    bus: int
    unit: int


@dataclass(frozen=True, slots=True)
class VmRow:
    """One VM."""

    name: str
    moref: str
    instance_uuid: str
    powered_on: bool
    template: bool
    encrypted: bool
    """The VM home is encrypted; the disks say for themselves."""
    vtpm: bool
    tracking: str
    """``on``, ``off`` or ``unsupported``."""
    snapshots: int
    capacity_bytes: int
    """Sum over the disks."""
    disks: tuple[DiskRow, ...]

    def as_dict(self) -> dict[str, object]:
        """The row in JSON's types."""
        return asdict(self)


def row(vm: VmInfo) -> VmRow:
    """The VM's row."""
    tracking = "on" if vm.tracking_enabled else "off" if vm.tracking_supported else "unsupported"
    return VmRow(
        name=vm.name,
        moref=vm.moref,
        instance_uuid=vm.instance_uuid,
        powered_on=vm.powered_on,
        template=vm.template,
        encrypted=vm.encrypted,
        vtpm=vm.has_vtpm,
        tracking=tracking,
        snapshots=len(vm.snapshots),
        capacity_bytes=sum(disk.capacity_bytes for disk in vm.disks),
        disks=tuple(
            DiskRow(
                key=disk.key,
                label=disk.label,
                capacity_bytes=disk.capacity_bytes,
                encrypted=disk.encrypted,
                backing=disk.backing.value,
                backing_path=disk.backing_path,
                controller=disk.controller,
                bus=disk.bus,
                unit=disk.unit,
            )
            for disk in vm.disks
        ),
    )

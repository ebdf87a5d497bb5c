"""A vCenter without a vCenter: the port's driver in memory, its disks in sparse files.

``MemorySite`` is the vCenter with its VMs, and is what a test writes to as "the guest"; ``MemoryVSphere`` is a login
to it, several may share a site. Both are safe for threads. Answers to change queries come in pages of ``page_areas``
areas; attached disks appear as links named ``scsi-<bus>:<unit>`` in ``device_dir``.
"""

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from common.clock import Clock, SystemClock
from common.errors import BusyError, ChangeTrackingError, NotFoundError, PreconditionError, SourceError
from common.ids import DiskKey, ReplicaId
from source_agent.vsphere.memory_disk import TRACKED_BYTES, MemoryDisk
from source_agent.vsphere.naming import pick
from source_agent.vsphere.port import AttachedDisk, ChangedPage, DiskInfo, Snapshot, SnapshotInfo, VmInfo

_UNITS = [unit for unit in range(16) if unit != 7]  # unit 7 is the controller itself
_BUSES = range(4)


@dataclass
class _Frozen:
    """A snapshot, its copies, and what it froze."""

    info: SnapshotInfo
    disks: tuple[DiskInfo, ...]
    files: dict[DiskKey, Path]


@dataclass
class MemoryVm:
    """One VM's state; tests change its fields freely, the site must not be at work meanwhile."""

    moref: str
    name: str
    instance_uuid: ReplicaId
    disks: dict[DiskKey, MemoryDisk] = field(default_factory=dict)
    snapshots: list[_Frozen] = field(default_factory=list)
    attached: dict[DiskKey, DiskInfo] = field(default_factory=dict)
    """Disks of other VMs' snapshots that are hot-added here."""
    template: bool = False
    powered_on: bool = True
    hardware_version: int = 19
    encrypted: bool = False
    has_vtpm: bool = False
    tracking_supported: bool = True
    tracking_wanted: bool = False
    consolidation_needed: bool = False
    host_version: str = "8.0.3"
    host_build: int = 24022510

    def info(self) -> VmInfo:
        """The VM in the port's words."""
        return VmInfo(
            moref=self.moref,
            name=self.name,
            instance_uuid=self.instance_uuid,
            template=self.template,
            powered_on=self.powered_on,
            hardware_version=self.hardware_version,
            encrypted=self.encrypted,
            has_vtpm=self.has_vtpm,
            tracking_supported=self.tracking_supported,
            tracking_enabled=self.tracking_wanted,
            consolidation_needed=self.consolidation_needed,
            disks=(*(disk.info(change_id=None) for _, disk in sorted(self.disks.items())), *self.attached.values()),
            snapshots=tuple(frozen.info for frozen in self.snapshots),
            host_version=self.host_version,
            host_build=self.host_build,
        )


class MemorySite:
    """The protected site: VMs, their disks under ``folder``, and the guests' hands on them."""

    def __init__(
        self,
        folder: Path,
        *,
        device_dir: Path | None = None,
        page_areas: int = 2000,
        tracked_bytes: int = TRACKED_BYTES,
        clock: Clock | None = None,
    ) -> None:
        self.folder = folder
        self.device_dir = device_dir or folder / "devices"
        self.page_areas = page_areas
        self.tracked_bytes = tracked_bytes
        self.clock = clock or SystemClock()
        self.lock = threading.RLock()
        self.machines: dict[str, MemoryVm] = {}
        self._counter = 0
        self.device_dir.mkdir(parents=True, exist_ok=True)

    def next_number(self) -> int:
        """A number that no object of the site bears yet."""
        with self.lock:
            self._counter += 1
            return self._counter

    def add_vm(self, name: str, disk_bytes: Sequence[int] = (), *, encrypted: bool = False) -> MemoryVm:
        """A powered-on VM with disks of the given capacities, keys 2000, 2001 …; encrypted with its disks or not."""
        with self.lock:
            moref = f"vm-{self.next_number()}"
            machine = MemoryVm(moref, name, ReplicaId(str(uuid.uuid4())), encrypted=encrypted)
            self.machines[moref] = machine
            for capacity in disk_bytes:
                self.add_disk(moref, capacity)
            return machine

    def add_disk(self, moref: str, capacity_bytes: int) -> MemoryDisk:
        """One more disk, all holes, encrypted as its VM is."""
        with self.lock:
            machine = self.machines[moref]
            index = len(machine.disks)
            disk = MemoryDisk(
                key=DiskKey(2000 + index),
                file=self.folder / f"{moref}-{2000 + index}.img",
                base_path=f"[memory] {moref}/{moref}_{index}.vmdk",
                capacity_bytes=capacity_bytes,
                label=f"Hard disk {index + 1}",
                encrypted=machine.encrypted,
                unit=_UNITS[index],
                tracked_bytes=self.tracked_bytes,
            )
            disk.create()
            machine.disks[disk.key] = disk
            return disk

    def write(self, moref: str, key: DiskKey, offset: int, data: bytes) -> None:
        """The guest writes."""
        with self.lock:
            self.machines[moref].disks[key].write(offset, data)

    def image(self, moref: str, key: DiskKey) -> bytes:
        """The disk as the guest sees it now."""
        with self.lock:
            return self.machines[moref].disks[key].file.read_bytes()

    def reset_tracking(self, moref: str) -> None:
        """Change tracking of every disk starts anew."""
        with self.lock:
            for disk in self.machines[moref].disks.values():
                disk.reset()

    def add_foreign_snapshot(self, moref: str, name: str) -> SnapshotInfo:
        """A snapshot of somebody else's."""
        return self.take(moref, name, "").info

    def take(self, moref: str, name: str, description: str) -> _Frozen:
        """Freeze all disks; tracking that was asked for comes into force first, as at a stun."""
        with self.lock:
            machine = self.machines[moref]
            for disk in machine.disks.values():
                disk.tracked = machine.tracking_wanted and not disk.independent
            snapshot = f"snapshot-{self.next_number()}"
            files: dict[DiskKey, Path] = {}
            disks: list[DiskInfo] = []
            for key, disk in sorted(machine.disks.items()):
                files[key] = self.folder / f"{snapshot}-{key}.img"
                disks.append(disk.freeze(files[key]))
            frozen = _Frozen(SnapshotInfo(snapshot, name, description, self.now()), tuple(disks), files)
            machine.snapshots.append(frozen)
            return frozen

    def now(self) -> datetime:
        """The site's wall clock."""
        return self.clock.now()

    def frozen_file(self, snapshot: str, key: DiskKey) -> Path:
        """Where the frozen bytes of a snapshot's disk lie.

        Raises:
            NotFoundError: no such snapshot or disk.
        """
        with self.lock:
            for machine in self.machines.values():
                for frozen in machine.snapshots:
                    if frozen.info.moref == snapshot and key in frozen.files:
                        return frozen.files[key]
        raise NotFoundError(
            f"snapshot {snapshot} has no disk {key}", subject=f"disk {key}", next_step="take the snapshot anew"
        )

    def file_behind(self, backing_path: str) -> Path | None:
        """The frozen file that the datastore path names at present; None for the live delta, which is locked."""
        with self.lock:
            for machine in self.machines.values():
                for frozen in machine.snapshots:
                    for disk in frozen.disks:
                        if disk.backing_path == backing_path:
                            return frozen.files[disk.key]
        return None


class MemoryVSphere:
    """A login to a ``MemorySite``; see ``port.VSphere`` for what each method promises."""

    def __init__(self, site: MemorySite) -> None:
        self.site = site

    def _machine(self, moref: str) -> MemoryVm:
        try:
            return self.site.machines[moref]
        except KeyError:
            raise NotFoundError(
                f"there is no VM {moref}", subject=f"vm {moref}", next_step="list the VMs with source-agent inventory"
            ) from None

    def vms(self) -> Sequence[VmInfo]:
        """See VSphere."""
        with self.site.lock:
            return sorted((machine.info() for machine in self.site.machines.values()), key=lambda vm: vm.name)

    def vm(self, name: str) -> VmInfo:
        """See VSphere."""
        return pick(self.vms(), name)

    def enable_tracking(self, moref: str) -> None:
        """See VSphere."""
        with self.site.lock:
            self._machine(moref).tracking_wanted = True

    def create_snapshot(self, moref: str, name: str, description: str, *, quiesce: bool) -> Snapshot:
        """See VSphere. Nothing runs in the guest, so ``quiesce`` changes nothing."""
        del quiesce
        with self.site.lock:
            if self._machine(moref).template:
                raise SourceError(
                    f"VM {moref} is a template", subject=f"vm {moref}", next_step="convert it to a virtual machine"
                )
            frozen = self.site.take(moref, name, description)
            return Snapshot(frozen.info.moref, name, frozen.info.created, frozen.disks)

    def remove_snapshot(self, moref: str, snapshot: str) -> None:
        """See VSphere."""
        with self.site.lock:
            machine = self._machine(moref)
            for frozen in [one for one in machine.snapshots if one.info.moref == snapshot]:
                if held := {link.resolve() for link in self.site.device_dir.iterdir()} & {
                    file.resolve() for file in frozen.files.values()
                }:
                    raise SourceError(
                        f"a disk of snapshot {snapshot} is attached elsewhere ({len(held)} in all)",
                        subject=f"vm {moref}",
                        next_step="detach the disk first",
                    )
                machine.snapshots.remove(frozen)
                for file in frozen.files.values():
                    file.unlink()
                for disk in machine.disks.values():
                    disk.thaw(len(machine.snapshots))

    def changed_page(self, moref: str, snapshot: str, disk: DiskKey, change_id: str, offset: int) -> ChangedPage:
        """See VSphere."""
        with self.site.lock:
            machine = self._machine(moref)
            frozen = next((one for one in machine.snapshots if one.info.moref == snapshot), None)
            shown = next((one for one in frozen.disks if one.key == disk), None) if frozen else None
            if shown is None:
                raise NotFoundError(
                    f"snapshot {snapshot} has no disk {disk}",
                    subject=f"disk {disk}",
                    next_step="start the sync again, it plans anew",
                )
            live = machine.disks[disk]
            if not live.knows(change_id) or shown.change_id is None or not live.knows(shown.change_id):
                raise ChangeTrackingError(
                    f"change id {change_id} is unknown to disk {disk}",
                    subject=f"disk {disk}",
                    next_step="run the sync as compare",
                )
            if not 0 <= offset < shown.capacity_bytes:
                raise ChangeTrackingError(
                    f"offset {offset} is not on disk {disk}", subject=f"disk {disk}", next_step="report this mistake"
                )
            return live.page(change_id, shown.change_id, offset, self.site.page_areas, shown.capacity_bytes)

    def attach_disk(self, moref: str, disk: DiskInfo) -> AttachedDisk:
        """See VSphere."""
        with self.site.lock:
            machine = self._machine(moref)
            if disk.encrypted and not machine.encrypted:
                raise SourceError(
                    f"VM {moref} is not encrypted, disk {disk.label} is",
                    subject=f"vm {moref}",
                    next_step="encrypt the agent's own VM",
                )
            file = self.site.file_behind(disk.backing_path)
            if file is None:
                raise BusyError(
                    f"{disk.backing_path} is locked by a running VM",
                    subject=f"disk {disk.key}",
                    next_step="attach a snapshot's disk",
                )
            taken = {(one.bus, one.unit) for one in machine.disks.values()}
            taken |= {(one.bus, one.unit) for one in machine.attached.values()}
            free = [(bus, unit) for bus in _BUSES for unit in _UNITS if (bus, unit) not in taken]
            if not free:
                raise PreconditionError(
                    f"VM {moref} has no free SCSI address", subject=f"vm {moref}", next_step="detach a disk"
                )
            bus, unit = free[0]
            key = DiskKey(5000 + self.site.next_number())
            (self.site.device_dir / f"scsi-{bus}:{unit}").symlink_to(file.resolve())
            machine.attached[key] = replace(disk, key=key, bus=bus, unit=unit, independent=True, change_id=None)
            return AttachedDisk(key, bus, unit)

    def detach_disk(self, moref: str, disk: DiskKey) -> None:
        """See VSphere."""
        with self.site.lock:
            machine = self._machine(moref)
            if disk in machine.disks:
                raise SourceError(
                    f"disk {disk} of VM {moref} was not hot-added",
                    subject=f"vm {moref}",
                    next_step="report this with the agent's log",
                )
            attached = machine.attached.pop(disk, None)
            if attached is not None:
                (self.site.device_dir / f"scsi-{attached.bus}:{attached.unit}").unlink()

    def close(self) -> None:
        """See VSphere."""

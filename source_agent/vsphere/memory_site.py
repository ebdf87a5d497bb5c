"""The protected site in memory: VMs, their disks in sparse files, and the guests' hands on them."""

import threading
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from common.clock import Clock, SystemClock
from common.errors import NotFoundError
from common.ids import DiskKey, ReplicaId
from common.vm_configuration import VERSION, BootDevice, Controller, DiskPlace, Nic, VmConfiguration
from source_agent.vsphere.memory_disk import TRACKED_BYTES, MemoryDisk
from source_agent.vsphere.past import Visit
from source_agent.vsphere.port import DiskInfo, KeyProvider, Placement, SnapshotInfo, Surroundings, VmInfo

UNITS = [unit for unit in range(16) if unit != 7]  # unit 7 is the controller itself


@dataclass
class Frozen:
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
    snapshots: list[Frozen] = field(default_factory=list)
    attached: dict[DiskKey, DiskInfo] = field(default_factory=dict)
    """Disks of other VMs' snapshots that are hot-added here."""
    reverts: list[datetime] = field(default_factory=list)
    """When the VM was brought back to a snapshot."""
    visits: list[tuple[datetime, Visit]] = field(default_factory=list)
    """When the VM came to a host or left one."""
    template: bool = False
    powered_on: bool = True
    hardware_version: int = 19
    encrypted: bool = False
    has_vtpm: bool = False
    cpus: int = 2
    tracking_supported: bool = True
    tracking_wanted: bool = False
    consolidation_needed: bool = False
    """Snapshots are removed without merging: the VM runs on in the file that it was in."""
    relocation_disabled: bool = False
    quiesce_failures: int = 0
    """How many quiesced snapshots fail from now on."""
    host_version: str = "8.0.3"
    host_build: int = 24022510
    forgetful_host: bool = False
    """The host leaves writes out of its change lists."""
    host: str = "esx1"
    datastores: tuple[str, ...] = ("memory",)
    folder: str = "/site/vm"
    attributes: dict[str, str] = field(default_factory=dict)

    def placement(self) -> Placement:
        """Where the VM is."""
        return Placement(
            moref=self.moref,
            name=self.name,
            instance_uuid=self.instance_uuid,
            template=self.template,
            host=self.host,
            datastores=self.datastores,
            folder=self.folder,
            attributes=dict(self.attributes),
        )

    def around(self) -> Surroundings:
        """What stands around it."""
        return Surroundings(
            host=self.host,
            vsan_datastores=(),
            key_provider=KeyProvider.STANDARD if self.encrypted else KeyProvider.NONE,
            relocation_disabled=self.relocation_disabled,
            tools_running=self.powered_on,
        )

    def configuration(self) -> VmConfiguration:
        """What it is besides its disks: they hang on one controller, and it has one network card."""
        return VmConfiguration(
            version=VERSION,
            guest_id="debian12_64Guest",
            hardware_version=self.hardware_version,
            firmware="efi",
            secure_boot=True,
            cpus=self.cpus,
            cores_per_socket=1,
            memory_mib=2048,
            vtpm=self.has_vtpm,
            controllers=(Controller(1000, "ParaVirtualSCSIController", 0, shared=False),),
            disks=tuple(DiskPlace(key, 1000, disk.unit) for key, disk in sorted(self.disks.items())),
            nics=(Nic(4000, "VirtualVmxnet3", "VM Network", "standard", "00:50:56:00:00:01", connected=True),),
            boot_order=(BootDevice("disk", min(self.disks, default=0)), BootDevice("ethernet", 4000)),
        )

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
            disks=(*(disk.info(disk.live_id) for _, disk in sorted(self.disks.items())), *self.attached.values()),
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
        self.key_id = str(uuid.uuid4())
        self.providers = ("memory-kms",)
        self.device_dir = device_dir or folder / "devices"
        self.page_areas = page_areas
        self.tracked_bytes = tracked_bytes
        self.clock = clock or SystemClock()
        self.remembers = timedelta(days=30)
        """How long a revert or a move stands in the history."""
        self.lock = threading.RLock()
        self.machines: dict[str, MemoryVm] = {}
        self.denied: frozenset[str] = frozenset()
        """Privileges that logins to this site lack."""
        self.cluster: frozenset[str] = frozenset()
        """Names of hosts that any VM may be moved to."""
        self.roles: dict[str, frozenset[str]] = {}
        self.tags: dict[str, set[str]] = {}
        """Morefs of the VMs that bear each tag there is, ``category:name``."""
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
                unit=UNITS[index],
                tracked_bytes=self.tracked_bytes,
            )
            disk.create()
            machine.disks[disk.key] = disk
            return disk

    def write(self, moref: str, key: DiskKey, offset: int, data: bytes) -> None:
        """The guest writes."""
        with self.lock:
            machine = self.machines[moref]
            machine.disks[key].write(offset, data, logged=not machine.forgetful_host)

    def image(self, moref: str, key: DiskKey) -> bytes:
        """The disk as the guest sees it now."""
        with self.lock:
            return self.machines[moref].disks[key].file.read_bytes()

    def reset_tracking(self, moref: str) -> None:
        """Change tracking of every disk starts anew."""
        with self.lock:
            for disk in self.machines[moref].disks.values():
                disk.reset()

    def revert(self, moref: str) -> None:
        """Bring the newest snapshot's content back. Change tracking stays silent about it, as it did in vSphere 4."""
        with self.lock:
            machine = self.machines[moref]
            newest = machine.snapshots[-1]
            for key, file in newest.files.items():
                machine.disks[key].bring_back(file)
            machine.reverts.append(self.now())

    def relocate(self, moref: str) -> None:
        """Put the VM's files elsewhere, as a storage vMotion does, in the worst way: tracking goes on, with a gap."""
        with self.lock:
            for disk in self.machines[moref].disks.values():
                disk.move()

    def move(self, moref: str, host: str, version: str, build: int, *, forgetful: bool = False) -> None:
        """Run the VM on another host, which leaves writes out of its change lists when ``forgetful``."""
        with self.lock:
            machine = self.machines[moref]
            left = Visit(machine.host, machine.host_version, machine.host_build)
            machine.visits += [(self.now(), left), (self.now(), Visit(host, version, build))]
            machine.host, machine.host_version, machine.host_build = host, version, build
            machine.forgetful_host = forgetful

    def upgrade(self, host: str, version: str, build: int) -> None:
        """Start a host anew with another release."""
        with self.lock:
            now = Visit(host, version, build, restarted=True)
            for machine in self.machines.values():
                machine.visits = [(when, now if visit.host == host else visit) for when, visit in machine.visits]
                if machine.host == host:
                    machine.host_version, machine.host_build = version, build

    def add_foreign_snapshot(self, moref: str, name: str) -> SnapshotInfo:
        """A snapshot of somebody else's."""
        return self.take(moref, name, "").info

    def take(self, moref: str, name: str, description: str) -> Frozen:
        """Freeze all disks; tracking that was asked for comes into force first, as at a stun."""
        with self.lock:
            machine = self.machines[moref]
            for disk in machine.disks.values():
                disk.track(wanted=machine.tracking_wanted)
            snapshot = f"snapshot-{self.next_number()}"
            files: dict[DiskKey, Path] = {}
            disks: list[DiskInfo] = []
            for key, disk in sorted(machine.disks.items()):
                files[key] = self.folder / f"{snapshot}-{key}.img"
                disks.append(disk.freeze(files[key]))
            frozen = Frozen(SnapshotInfo(snapshot, name, description, self.now()), tuple(disks), files)
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

"""A vCenter without a vCenter: the port's driver in memory, its disks in sparse files.

``MemorySite`` is the vCenter with its VMs, and is what a test writes to as "the guest"; ``MemoryVSphere`` is a login
to it, several may share a site. Both are safe for threads. Answers to change queries come in pages of ``page_areas``
areas; attached disks appear as links named ``scsi-<bus>:<unit>`` in ``device_dir``.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from common.errors import BusyError, ChangeTrackingError, NotFoundError, PreconditionError, QuiesceError, SourceError
from common.ids import DiskKey
from common.vsphere.disk import AttachedDisk
from source_agent.vsphere.memory_site import UNITS, MemorySite, MemoryVm
from source_agent.vsphere.naming import pick
from source_agent.vsphere.past import Past
from source_agent.vsphere.port import (
    ChangedPage,
    DiskInfo,
    KeyNames,
    Lacking,
    Place,
    Placement,
    RoleChange,
    Snapshot,
    Surroundings,
    VmInfo,
)

__all__ = ["MemorySite", "MemoryVSphere"]

_BUSES = range(4)


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

    def now(self) -> datetime:
        """See VSphere."""
        return self.site.now()

    def vms(self) -> Sequence[VmInfo]:
        """See VSphere."""
        with self.site.lock:
            return sorted((machine.info() for machine in self.site.machines.values()), key=lambda vm: vm.name)

    def placements(self) -> Sequence[Placement]:
        """See VSphere."""
        with self.site.lock:
            return sorted((machine.placement() for machine in self.site.machines.values()), key=lambda one: one.name)

    def tagged(self, wanted: Collection[str]) -> Mapping[str, frozenset[str]]:
        """See VSphere."""
        with self.site.lock:
            return {tag: frozenset(self.site.tags[tag]) for tag in wanted if tag in self.site.tags}

    def vm(self, name: str) -> VmInfo:
        """See VSphere."""
        return pick(self.vms(), name)

    def past_since(self, moref: str, since: datetime) -> Past:
        """See VSphere."""
        with self.site.lock:
            remembered = max(since, self.site.now() - self.site.remembers)
            machine = self._machine(moref)
            visits = {visit.host: visit for when, visit in machine.visits if when >= remembered}
            return Past(
                reverted=any(when >= remembered for when in machine.reverts),
                visits=tuple(visits[host] for host in sorted(visits)),
            )

    def surroundings(self, moref: str) -> Surroundings:
        """See VSphere."""
        with self.site.lock:
            return self._machine(moref).around()

    def possible_hosts(self) -> Mapping[str, tuple[str, ...]]:
        """See VSphere."""
        with self.site.lock:
            machines = self.site.machines.values()
            return {one.moref: tuple(sorted({one.host, *self.site.cluster})) for one in machines}

    def key_names(self, moref: str) -> KeyNames:
        """See VSphere. All encrypted VMs of the site share a key."""
        with self.site.lock:
            if not self._machine(moref).encrypted:
                return KeyNames((), self.site.providers)
            return KeyNames((self.site.key_id,), self.site.providers)

    def lacking(self, moref: str, agent_vm: str, wanted: Mapping[Place, frozenset[str]]) -> tuple[Lacking, ...]:
        """See VSphere. Whatever the site denies is denied everywhere; the site is one folder and one datastore."""
        entities = {
            Place.VM: f"VM {self._machine(moref).name}",
            Place.FOLDER: "folder memory",
            Place.DATASTORE: "datastore memory",
            Place.ROOT: "the vCenter's root folder",
        }
        if agent_vm:
            entities[Place.AGENT_VM] = f"VM {self._machine(agent_vm).name}"
        return tuple(
            Lacking(privilege, place, entity)
            for place, entity in entities.items()
            for privilege in sorted(wanted.get(place, frozenset()) & self.site.denied)
        )

    def put_role(self, name: str, privileges: frozenset[str]) -> RoleChange:
        """See VSphere."""
        held = self.site.roles.get(name)
        self.site.roles[name] = privileges
        before = held or frozenset()
        return RoleChange(
            name,
            created=held is None,
            added=tuple(sorted(privileges - before)),
            removed=tuple(sorted(before - privileges)),
            unknown=(),
        )

    def enable_tracking(self, moref: str) -> None:
        """See VSphere."""
        with self.site.lock:
            self._machine(moref).tracking_wanted = True

    def create_snapshot(self, moref: str, name: str, description: str, *, quiesce: bool) -> Snapshot:
        """See VSphere. Nothing runs in the guest: quiescing works while the VM is on, unless a test says otherwise."""
        with self.site.lock:
            machine = self._machine(moref)
            if quiesce and machine.quiesce_failures > 0:
                machine.quiesce_failures -= 1
                raise QuiesceError(
                    f"the guest of VM {moref} did not quiesce", subject=f"vm {moref}", next_step="check VMware Tools"
                )
            if machine.template:
                raise SourceError(
                    f"VM {moref} is a template", subject=f"vm {moref}", next_step="convert it to a virtual machine"
                )
            frozen = self.site.take(moref, name, description)
            quiesced = quiesce and machine.around().tools_running
            return Snapshot(
                frozen.info.moref, name, frozen.info.created, frozen.disks, moref, quiesced, machine.configuration()
            )

    def snapshot_bytes(self, moref: str) -> int:
        """See VSphere."""
        with self.site.lock:
            machine = self._machine(moref)
            return sum(disk.delta_bytes for disk in machine.disks.values()) if machine.snapshots else 0

    def remove_snapshot(self, moref: str, snapshot: str) -> bool:
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
                if not machine.consolidation_needed:
                    for disk in machine.disks.values():
                        disk.thaw(len(machine.snapshots))
            return not machine.consolidation_needed

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
            free = [(bus, unit) for bus in _BUSES for unit in UNITS if (bus, unit) not in taken]
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

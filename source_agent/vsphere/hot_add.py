"""Attaching snapshots' disks to the agent's VM, and detaching them; after a lost answer the disk is looked for."""

import threading
from typing import Any

from pyVmomi import vim

from common.errors import KeysapartError, SourceError, SourceUnavailableError
from common.ids import DiskKey
from source_agent.vsphere import attach
from source_agent.vsphere.machines import Machines
from source_agent.vsphere.port import AttachedDisk, DiskInfo


class HotAdd:
    """Over the VMs of one session."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self._slots = threading.Lock()
        """Held while a free address of the agent's VM is chosen and taken."""

    def attach(self, moref: str, disk: DiskInfo) -> AttachedDisk:
        """See VSphere.attach_disk."""
        with self._slots:
            return self._machines.while_busy(lambda: self._attach(moref, disk))

    def _attach(self, moref: str, disk: DiskInfo) -> AttachedDisk:
        values = self._machines.values(moref, "config.hardware.device", "config.changeVersion")
        slot = attach.free_slot(values.get("config.hardware.device") or [], f"VM {self._machines.called(moref)}")
        # Another agent on the same VM may take the slot meanwhile: the change version makes this one fail then.
        spec = vim.vm.ConfigSpec(
            changeVersion=values.get("config.changeVersion"), deviceChange=attach.attaching(disk, slot)
        )
        lost: SourceUnavailableError | None = None
        try:
            self._machines.once(
                moref, f"attaching {disk.backing_path} to a slot", lambda machine: machine.ReconfigVM_Task(spec)
            )
        except SourceUnavailableError as error:
            lost = error
        found = attach.hot_added(self._devices(moref), slot, disk.backing_path)
        if found is None:
            raise lost or SourceError(
                f"{disk.label} was attached to VM {self._machines.called(moref)}, but is not there",
                subject=f"vm {moref}",
                next_step="look at the vCenter's tasks for somebody who detached it",
            )
        return AttachedDisk(DiskKey(found.key), slot.bus, slot.unit)

    def detach(self, moref: str, disk: DiskKey) -> None:
        """See VSphere.detach_disk. Refuses a disk that is not independent and non-persistent: it would not be ours."""
        device = self._disk(moref, disk)
        if device is None:
            return
        if device.backing.diskMode != attach.NON_PERSISTENT:
            raise SourceError(
                f"disk {disk} of VM {moref} is {device.backing.diskMode}, so it is not one that was hot-added",
                subject=f"vm {moref}",
                next_step="report this with the agent's log",
            )
        spec = vim.vm.ConfigSpec(deviceChange=attach.detaching(device))
        try:
            self._machines.change(moref, f"detaching disk {disk}", lambda machine: machine.ReconfigVM_Task(spec))
        except KeysapartError:
            if self._disk(moref, disk) is not None:
                raise

    def _devices(self, moref: str) -> list[Any]:
        return list(self._machines.values(moref, "config.hardware.device").get("config.hardware.device") or [])

    def _disk(self, moref: str, key: DiskKey) -> Any | None:
        disks = (one for one in self._devices(moref) if isinstance(one, vim.vm.device.VirtualDisk))
        return next((one for one in disks if one.key == key), None)

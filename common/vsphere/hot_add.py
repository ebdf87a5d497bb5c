"""Attaching disks to the VM that we run in, and detaching them; after a lost answer the disk is looked for."""

import threading
from typing import Any

from pyVmomi import vim

from common.errors import KeysapartError, SourceError, SourceUnavailableError
from common.ids import DiskKey
from common.vsphere import attach
from common.vsphere.disk import AttachedDisk, DiskFile
from common.vsphere.faults import at_side
from common.vsphere.machines import Machines


class HotAdd:
    """Over the VMs of one session; ``mode`` is NON_PERSISTENT or PERSISTENT."""

    def __init__(self, machines: Machines, mode: str = attach.NON_PERSISTENT) -> None:
        self._machines = machines
        self._mode = mode
        self._slots = threading.Lock()
        """Held while a free address of the VM is chosen and taken."""

    def attach(self, moref: str, disk: DiskFile) -> AttachedDisk:
        """The disk, attached at a free SCSI address of the VM.

        Raises:
            PreconditionError: there is no free address.
            SourceUnavailableError: the outcome is unknown.
            KeysapartError: by the table in faults.py.
        """
        with self._slots:
            return self._machines.while_busy(lambda: self._attach(moref, disk))

    def _attach(self, moref: str, disk: DiskFile) -> AttachedDisk:
        values = self._machines.values(moref, "config.hardware.device", "config.changeVersion")
        slot = attach.free_slot(values.get("config.hardware.device") or [], f"VM {self._machines.called(moref)}")
        # Somebody else may take the slot meanwhile: the change version makes this one fail then.
        spec = vim.vm.ConfigSpec(
            changeVersion=values.get("config.changeVersion"), deviceChange=attach.attaching(disk, slot, self._mode)
        )
        lost: SourceUnavailableError | None = None
        try:
            self._machines.once(
                moref, f"attaching {disk.path} to a slot", lambda machine: machine.ReconfigVM_Task(spec)
            )
        except SourceUnavailableError as error:
            lost = error
        found = attach.hot_added(self._devices(moref), slot, disk.path, self._mode)
        if found is None:
            raise lost or self._error()(
                f"{disk.label} was attached to VM {self._machines.called(moref)}, but is not there",
                subject=f"vm {moref}",
                next_step="look at the vCenter's tasks for somebody who detached it",
            )
        return AttachedDisk(DiskKey(found.key), slot.bus, slot.unit)

    def detach(self, moref: str, disk: DiskKey) -> None:
        """Take a disk off if it is there; its file stays. Refuses one of another mode: it is not ours."""
        device = self._disk(moref, disk)
        if device is None:
            return
        if device.backing.diskMode != self._mode:
            raise self._error()(
                f"disk {disk} of VM {moref} is {device.backing.diskMode}, so it is not one that was hot-added",
                subject=f"vm {moref}",
                next_step="report this with the log",
            )
        spec = vim.vm.ConfigSpec(deviceChange=attach.detaching(device))
        try:
            self._machines.change(moref, f"detaching disk {disk}", lambda machine: machine.ReconfigVM_Task(spec))
        except KeysapartError:
            if self._disk(moref, disk) is not None:
                raise

    def _error(self) -> type[KeysapartError]:
        return at_side(SourceError, self._machines.session.settings.side)

    def _devices(self, moref: str) -> list[Any]:
        return list(self._machines.values(moref, "config.hardware.device").get("config.hardware.device") or [])

    def _disk(self, moref: str, key: DiskKey) -> Any | None:
        disks = (one for one in self._devices(moref) if isinstance(one, vim.vm.device.VirtualDisk))
        return next((one for one in disks if one.key == key), None)

"""Where a disk goes on the VM that we run in, and the device changes that put it there and take it away. Pure.

Detaching carries no file operation: with ``destroy`` somebody's disk would be deleted.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from common.errors import PreconditionError
from common.vsphere.disk import DiskFile

NON_PERSISTENT = "independent_nonpersistent"
"""For reading: nothing that is written lasts, and the VM's own snapshots leave the disk out."""
PERSISTENT = "independent_persistent"
"""For writing: what is written is in the file at once, and the VM's own snapshots leave the disk out."""

_DEVICE = vim.vm.device
_CONTROLLERS = 4
_UNITS = tuple(unit for unit in range(16) if unit != 7)
"""7 is the controller itself. ParaVirtual ones hold 64 disks from hardware version 14 on; 60 in all are enough."""
_NEW_CONTROLLER = -101
_NEW_DISK = -102
"""Negative keys stand for devices of the same change; vCenter gives the real ones."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A free SCSI address."""

    bus: int
    unit: int
    controller_key: int | None
    """None: the controller of that bus has to be added with the disk."""


def free_slot(devices: Iterable[Any], subject: str) -> Slot:
    """The first free SCSI address of a VM; a ParaVirtual controller is added once all others are full.

    Raises:
        PreconditionError: all four controllers are full.
    """
    known = list(devices)
    controllers = sorted(
        (device for device in known if isinstance(device, _DEVICE.VirtualSCSIController)),
        key=lambda controller: controller.busNumber,
    )
    for controller in controllers:
        if controller.sharedBus != "noSharing":
            continue  # what is attached there would be visible to other VMs
        taken = {device.unitNumber for device in known if device.controllerKey == controller.key}
        for unit in _UNITS:
            if unit not in taken:
                return Slot(controller.busNumber, unit, controller.key)
    buses = {controller.busNumber for controller in controllers}
    for bus in range(_CONTROLLERS):
        if bus not in buses:
            return Slot(bus, 0, None)
    raise PreconditionError(
        f"{subject} has no free SCSI address to hot-add a disk at",
        subject=subject,
        next_step="remove disks from that VM, or work on fewer disks at once",
    )


def attaching(disk: DiskFile, slot: Slot, mode: str) -> list[Any]:
    """Device changes that attach the disk's existing file in the slot."""
    add = _DEVICE.VirtualDeviceSpec.Operation.add
    changes = []
    if slot.controller_key is None:
        controller = _DEVICE.ParaVirtualSCSIController(
            key=_NEW_CONTROLLER, busNumber=slot.bus, sharedBus=_DEVICE.VirtualSCSIController.Sharing.noSharing
        )
        changes.append(_DEVICE.VirtualDeviceSpec(operation=add, device=controller))
    device = _DEVICE.VirtualDisk(
        key=_NEW_DISK,
        controllerKey=slot.controller_key if slot.controller_key is not None else _NEW_CONTROLLER,
        unitNumber=slot.unit,
        capacityInBytes=disk.capacity_bytes,
        capacityInKB=disk.capacity_bytes // 1024,
        backing=_DEVICE.VirtualDisk.FlatVer2BackingInfo(fileName=disk.path, diskMode=mode),
    )
    changes.append(_DEVICE.VirtualDeviceSpec(operation=add, device=device))
    return changes


def detaching(device: Any) -> list[Any]:
    """Device changes that take the disk away and leave its file alone."""
    return [_DEVICE.VirtualDeviceSpec(operation=_DEVICE.VirtualDeviceSpec.Operation.remove, device=device)]


def hot_added(devices: Iterable[Any], slot: Slot, path: str, mode: str) -> Any | None:
    """The disk that is attached in the slot, when it is of that mode and path."""
    known: dict[int, Any] = {device.key: device for device in devices}
    for device in known.values():
        controller = known.get(device.controllerKey)
        if not (isinstance(device, _DEVICE.VirtualDisk) and isinstance(controller, _DEVICE.VirtualSCSIController)):
            continue
        if (controller.busNumber, device.unitNumber) == (slot.bus, slot.unit):
            backing: Any = device.backing
            return device if backing.diskMode == mode and path in _chain(backing) else None
    return None


def _chain(backing: Any) -> Iterable[str]:
    """File names of a backing and its parents: a powered-on VM's non-persistent disk gets a redo log on top."""
    while backing is not None:
        yield backing.fileName
        backing = getattr(backing, "parent", None)

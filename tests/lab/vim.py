"""A plain pyVmomi client for tests: what the agent does, done by hand, and what other users of a vCenter do."""

import contextlib
import ssl
import time
from collections.abc import Iterator
from typing import Any

from pyVim.connect import Disconnect, SmartConnect
from pyVmomi import vim

from tests.lab.site import Lab
from tests.lab.target_site import TargetSite

_DISK = vim.vm.device.VirtualDisk
_SPEC = vim.vm.device.VirtualDeviceSpec


class Vim:
    """A logged-in session at a lab's vCenter."""

    def __init__(self, service: Any) -> None:
        self.service = service
        self.content = service.RetrieveContent()

    def vm(self, name: str) -> Any:
        """The VM of that name."""
        found = self.content.viewManager.CreateContainerView(self.content.rootFolder, [vim.VirtualMachine], True)
        try:
            return next(one for one in found.view if one.name == name)
        finally:
            found.Destroy()

    def reconfigure(self, vm: Any, **changes: Any) -> None:
        """Change the VM's configuration, as an administrator would."""
        wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(**changes)))

    def add_vtpm(self, vm: Any) -> None:
        """Give the VM a TPM."""
        device = vim.vm.device.VirtualTPM(key=-1)
        self.reconfigure(vm, deviceChange=[_SPEC(operation="add", device=device)])

    def track(self, vm: Any) -> None:
        """Switch change tracking on; in force from the next snapshot."""
        wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(changeTrackingEnabled=True)))

    def snapshot(self, vm: Any, name: str = "test") -> Any:
        """Take a snapshot."""
        return wait(vm.CreateSnapshot_Task(name, "", memory=False, quiesce=False))

    def snapshot_of(self, moref: str) -> Any:
        """The snapshot of that moref."""
        return vim.vm.Snapshot(moref, self.service._stub)

    def remove(self, snapshot: Any) -> None:
        """Remove a snapshot."""
        wait(snapshot.RemoveSnapshot_Task(removeChildren=False))

    def attach(self, vm: Any, disk: Any, bus: int, unit: int, mode: str = "independent_nonpersistent") -> Any:
        """Hot-add a snapshot's disk; returns the new device."""
        kind = vim.vm.device.VirtualSCSIController
        controller = next(d for d in vm.config.hardware.device if isinstance(d, kind) and d.busNumber == bus)
        device = _DISK(
            key=-1,
            controllerKey=controller.key,
            unitNumber=unit,
            backing=_DISK.FlatVer2BackingInfo(fileName=disk.backing.fileName, diskMode=mode),
            capacityInBytes=disk.capacityInBytes,
        )
        wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[_SPEC(operation="add", device=device)])))
        return next(d for d in disks(vm) if (d.controllerKey, d.unitNumber) == (controller.key, unit))

    def detach(self, vm: Any, device: Any, file_operation: str | None = None) -> None:
        """Take a disk away; with ``destroy`` its file goes too."""
        change = _SPEC(operation="remove", device=device, fileOperation=file_operation)
        wait(vm.ReconfigVM_Task(vim.vm.ConfigSpec(deviceChange=[change])))


@contextlib.contextmanager
def connected(lab: Lab | TargetSite) -> Iterator[Vim]:
    """A session that ends with the context."""
    context = ssl.create_default_context(cafile=str(lab.vcenter.ca_file))
    login = {"host": lab.vcenter.host, "port": lab.vcenter.port, "user": lab.vcenter.user}
    service = SmartConnect(**login, pwd=lab.vcenter.password, sslContext=context)
    try:
        yield Vim(service)
    finally:
        Disconnect(service)


def disks(holder: Any) -> list[Any]:
    """Virtual disks of a VM or snapshot."""
    return [device for device in holder.config.hardware.device if isinstance(device, _DISK)]


def change_ids(snapshot: Any) -> dict[int, str | None]:
    """Change ids of a snapshot's disks by device key."""
    return {disk.key: disk.backing.changeId for disk in disks(snapshot)}


def wait(task: Any, seconds: float = 60.0) -> Any:
    """The task's result.

    Raises:
        vmodl.MethodFault: it failed.
        TimeoutError: it did not end in time.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        info = task.info
        if info.state == "success":
            return info.result
        if info.state == "error":
            raise info.error
        time.sleep(0.005)
    raise TimeoutError(f"task {task} did not end in {seconds} s")


def changed(vm: Any, snapshot: Any, key: int, change_id: str) -> tuple[list[tuple[int, int]], int]:
    """All changed areas (start, length), and how many pages they came in."""
    capacity = next(disk.capacityInBytes for disk in disks(snapshot) if disk.key == key)
    areas: list[tuple[int, int]] = []
    offset = pages = 0
    while offset < capacity:
        page = vm.QueryChangedDiskAreas(snapshot, key, offset, change_id)
        assert page.startOffset == offset
        assert page.length > 0
        areas += [(area.start, area.length) for area in page.changedArea]
        offset, pages = offset + page.length, pages + 1
    assert offset == capacity
    return areas, pages

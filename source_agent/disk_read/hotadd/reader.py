"""The hot-add block reader: attach through vCenter, find the device, read it, detach on every path."""

import threading
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from common.clock import Clock
from common.errors import KeysapartError, NotFoundError
from common.ids import DiskKey
from common.vsphere.locate import DEFAULT_DEVICE_DIR, Locator
from source_agent.disk_read.device import DeviceDisk
from source_agent.disk_read.hotadd.journal import Attachment, Journal
from source_agent.vsphere.port import DiskInfo, Snapshot, VmInfo, VSphere


def ours(vm: VmInfo, wanted: Attachment) -> list[DiskKey]:
    """Keys of the disks on the agent's VM that are the wanted one: independent, and of its file or its UUID.

    A running VM may show another file for a non-persistent disk (the redo log on top), never another UUID. Pure.
    """
    return [
        disk.key
        for disk in vm.disks
        if disk.independent
        and (disk.backing_path == wanted.backing_path or (wanted.uuid != "" and disk.uuid == wanted.uuid))
    ]


class HotAddReader:
    """See ``port.BlockReader``. Disks may be opened and released from several threads."""

    def __init__(
        self,
        vsphere: VSphere,
        agent_vm: str,
        state_dir: Path,
        clock: Clock,
        *,
        device_dir: Path = DEFAULT_DEVICE_DIR,
        locator: Locator | None = None,
    ) -> None:
        """Wire the reader.

        Args:
            vsphere: vCenter of both the VM that is read and the agent's own.
            agent_vm: the agent's own VM: name, moref or instance UUID.
            state_dir: where what is attached is written down, in the folder ``hotadd``.
            clock: for waiting for devices.
            device_dir: where the guest operating system shows disks by SCSI address.
            locator: in place of the one over ``device_dir``.
        """
        self._vsphere = vsphere
        self._agent_vm = agent_vm
        self._journal = Journal(state_dir / "hotadd")
        self._locator = locator or Locator(clock, device_dir)
        self._lock = threading.RLock()
        """One attach or detach at a time, so that a new device can only be the disk that was attached."""
        self._moref: str | None = None

    def open(self, snapshot: Snapshot, disk: DiskInfo) -> DeviceDisk:
        """See BlockReader."""
        del snapshot  # the disk's path is of its frozen configuration
        with self._lock:
            vm = self._agent()
            before = self._locator.present()
            entry = self._journal.intend(vm, disk.backing_path, disk.uuid)
            key: DiskKey | None = None
            node: Path | None = None
            try:
                attached = self._vsphere.attach_disk(vm, disk)
                key = attached.key
                self._journal.attached(entry, key)
                node = self._locator.find(attached, disk.capacity_bytes, before)
                held = key
                found = node
                return DeviceDisk(
                    node, disk.capacity_bytes, f"disk {disk.key}", lambda: self._release(entry, held, found)
                )
            except BaseException as error:
                self._give_back(entry, key, node, error)
                raise

    def held(self, vm: str) -> AbstractContextManager[None]:
        """See BlockReader; nothing keeps a VM from being moved."""
        del vm
        return nullcontext()

    def release_leftovers(self) -> int:
        """See BlockReader."""
        with self._lock, self._journal.orphans() as orphans:
            released = 0
            for orphan in orphans:
                paths_coming = {one.backing_path for one in self._journal.living() if one.key is None}
                mine = [one for one in orphan.attachments if one.backing_path not in paths_coming]
                released += sum(self._detach_matching(one) for one in mine)
                if len(mine) == len(orphan.attachments):
                    orphan.settle()
            return released

    def _detach_matching(self, wanted: Attachment) -> int:
        """Detach every disk that is the wanted one and that no living process has attached; returns how many."""
        try:
            vm = self._vsphere.vm(wanted.vm)
        except NotFoundError:
            return 0  # the agent's VM was replaced, and its disks went with it
        in_use = {one.key for one in self._journal.living()}
        found = [key for key in ours(vm, wanted) if key not in in_use]
        for key in found:
            self._vsphere.detach_disk(wanted.vm, key)
        return len(found)

    def close(self) -> None:
        """See BlockReader."""
        with self._lock:
            self._journal.close()

    def _agent(self) -> str:
        """Moref of the agent's own VM, which does not change while the agent runs."""
        if self._moref is None:
            try:
                self._moref = self._vsphere.vm(self._agent_vm).moref
            except NotFoundError as error:
                raise NotFoundError(
                    f"the agent's own VM {self._agent_vm!a} is not in the vCenter",
                    subject="agent_vm",
                    next_step="set agent_vm in the [reader] section to the name of the VM that this agent runs in",
                ) from error
        return self._moref

    def _release(self, entry: Attachment, key: DiskKey, node: Path) -> None:
        with self._lock:
            self._locator.forget(node)
            self._vsphere.detach_disk(entry.vm, key)
            self._journal.detached(entry)
            self._locator.wait_gone(node)

    def _give_back(self, entry: Attachment, key: DiskKey | None, node: Path | None, error: BaseException) -> None:
        """Detach after a failure half-way; what cannot be detached stays in the journal and is noted."""
        try:
            if node is not None:
                self._locator.forget(node)
            if key is not None:
                self._vsphere.detach_disk(entry.vm, key)
            else:
                self._detach_matching(entry)
            self._journal.detached(entry)
        except KeysapartError as failed:
            error.add_note(f"{entry.backing_path} may still be attached to the agent's VM ({failed.message})")

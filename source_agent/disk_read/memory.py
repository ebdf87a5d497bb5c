"""A block reader over memory's vCenter: opens a snapshot's frozen file, attaches nothing."""

from contextlib import AbstractContextManager, nullcontext

from source_agent.disk_read.device import DeviceDisk
from source_agent.vsphere.memory import MemorySite
from source_agent.vsphere.port import DiskInfo, Snapshot


class MemoryReader:
    """See ``port.BlockReader``."""

    def __init__(self, site: MemorySite) -> None:
        self._site = site

    def open(self, snapshot: Snapshot, disk: DiskInfo) -> DeviceDisk:
        """See BlockReader."""
        path = self._site.frozen_file(snapshot.moref, disk.key)
        return DeviceDisk(path, disk.capacity_bytes, f"disk {disk.key}", lambda: None)

    def held(self, vm: str) -> AbstractContextManager[None]:
        """See BlockReader; nothing keeps a VM from being moved."""
        del vm
        return nullcontext()

    def release_leftovers(self) -> int:
        """See BlockReader; nothing is ever attached."""
        return 0

    def close(self) -> None:
        """See BlockReader."""

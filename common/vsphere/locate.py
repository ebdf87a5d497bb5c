"""Which device node a hot-added disk has: by its SCSI address, never "the newest one".

Only nodes that were not there before the attach count; a caller attaches one disk at a time. Three ways to name a node
are tried in this order, the first that answers wins:

1. ``<device_dir>/scsi-<bus>:<unit>``: vSphere's own bus and unit numbers. A udev rule of the site's may make these,
   and the lab does.
2. ``<device_dir>/*-scsi-<host>:0:<unit>:0``: udev's by-path names. The host number there is not vSphere's bus number
   (each controller is a PCI device of its own, and counts from 0), so the unit must agree, the size must be exactly the
   disk's, and one node only may fit.
3. ``/sys/class/scsi_device/<host>:0:<unit>:0/device/block/<name>``, for guests without udev, under the same conditions.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from common.clock import Clock
from common.errors import Fault, KeysapartError, SourceError
from common.vsphere.disk import AttachedDisk
from common.vsphere.faults import at_side

DEFAULT_DEVICE_DIR = Path("/dev/disk/by-path")
WAIT_SECONDS = 30.0
"""How long the guest's kernel may take to show a disk."""
GONE_SECONDS = 5.0
"""How long it may take to drop one."""

_PAUSE_SECONDS = 0.1
_RESCAN_SECONDS = 2.0
_BY_PATH = re.compile(r".+-scsi-\d+:0:(\d+):0")
_SCSI_DEVICE = re.compile(r"\d+:0:(\d+):0")


def size_of(node: Path) -> int:
    """Bytes of a device or file; -1 when it cannot be opened (yet)."""
    try:
        file = os.open(node, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        return os.lseek(file, 0, os.SEEK_END)
    finally:
        os.close(file)


Present = frozenset[tuple[Path, int, int]]
"""Nodes with inode number and change time: a node that went and came again is a new one."""


def _stamped(node: Path) -> tuple[Path, int, int]:
    try:
        status = node.lstat()
    except OSError:
        return node, 0, 0
    return node, status.st_ino, status.st_ctime_ns


class Locator:
    """Finds nodes; safe for threads, keeps nothing."""

    def __init__(
        self,
        clock: Clock,
        device_dir: Path = DEFAULT_DEVICE_DIR,
        *,
        side: Fault = Fault.SOURCE,
        sys_dir: Path = Path("/sys"),
        dev_dir: Path = Path("/dev"),
    ) -> None:
        self._clock = clock
        self._device_dir = device_dir
        self._side = side
        self._sys_dir = sys_dir
        self._dev_dir = dev_dir

    def present(self) -> Present:
        """All nodes that are there now; ask before the attach."""
        return frozenset(_stamped(node) for node in self._nodes())

    def find(self, disk: AttachedDisk, capacity_bytes: int, before: Present) -> Path:
        """The node of the disk that was attached after ``before`` was asked; waits for it.

        Raises:
            SourceError: it does not show in time, has another size, or several nodes fit; at the target, VCenterError.
        """
        deadline = self._clock.monotonic() + WAIT_SECONDS
        rescan = self._clock.monotonic()
        while True:
            new = [node for node in self._nodes() if _stamped(node) not in before]
            for fitting in self._fitting(new, disk, capacity_bytes):
                if len(fitting) > 1:
                    raise self._failed(
                        disk, f"may be any of {', '.join(str(node) for node in fitting)}: its address is ambiguous"
                    )
                if fitting:
                    return fitting[0]
            now = self._clock.monotonic()
            if now >= deadline:
                raise self._failed(disk, f"does not show as a device of {capacity_bytes} bytes")
            if now >= rescan:
                self._rescan()
                rescan = now + _RESCAN_SECONDS
            self._clock.sleep(_PAUSE_SECONDS)

    def forget(self, node: Path) -> None:
        """Tell the kernel to drop the device before it is detached; nothing where there is no such switch."""
        with suppress(OSError):
            name = node.resolve().name
            (self._sys_dir / "class" / "block" / name / "device" / "delete").write_text("1")

    def wait_gone(self, node: Path) -> None:
        """After detaching: wait a little for the node to go, so that the next disk at its address is not taken for it.

        One that stays does no harm yet: it counts as old, and the next attach at its address says so.
        """
        deadline = self._clock.monotonic() + GONE_SECONDS
        while os.path.lexists(node) and self._clock.monotonic() < deadline:
            self._clock.sleep(_PAUSE_SECONDS)

    def _fitting(self, new: list[Path], disk: AttachedDisk, capacity_bytes: int) -> Iterator[list[Path]]:
        """The nodes that fit by each of the three ways, in order."""
        exact = self._device_dir / f"scsi-{disk.bus}:{disk.unit}"
        yield [node for node in new if node == exact and size_of(node) >= capacity_bytes]
        for pattern in (_BY_PATH, _SCSI_DEVICE):
            yield [
                self._block(node)
                for node in new
                if (match := pattern.fullmatch(node.name))
                and int(match[1]) == disk.unit
                and size_of(self._block(node)) == capacity_bytes
            ]

    def _nodes(self) -> Iterator[Path]:
        for folder in (self._device_dir, self._sys_dir / "class" / "scsi_device"):
            with suppress(OSError):  # a guest need not have both
                yield from folder.iterdir()

    def _block(self, node: Path) -> Path:
        """The device of an entry: itself, or what sysfs calls it."""
        if node.parent == self._device_dir:
            return node
        with suppress(OSError):
            for name in sorted((node / "device" / "block").iterdir()):
                return self._dev_dir / name.name
        return node

    def _rescan(self) -> None:
        for scan in (self._sys_dir / "class" / "scsi_host").glob("*/scan"):
            with suppress(OSError):  # needs root; most kernels find hot-added disks by themselves
                scan.write_text("- - -")

    def _failed(self, disk: AttachedDisk, what: str) -> KeysapartError:
        section = "vcenter" if self._side is Fault.TARGET else "reader"
        return at_side(SourceError, self._side)(
            f"the disk attached at SCSI address {disk.bus}:{disk.unit} {what}",
            subject=f"scsi {disk.bus}:{disk.unit}",
            next_step=f"check device_dir in the [{section}] section ({self._device_dir}) and this VM's kernel log",
        )

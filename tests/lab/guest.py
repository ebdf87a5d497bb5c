"""The guest's side of a virtual disk: reads and writes of a running VM, each write logged for change tracking.

On disk a disk is a stack of layers (see ``vcenter/layers.go``): the guest writes to the topmost, and reads the topmost
that holds what it asks for. Everything happens under the lock file of the VM, which the vCenter also takes while it
stuns the VM for a snapshot, so that a snapshot holds a write wholly or not at all, on all disks alike.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.lab.errors import GuestError

_RECORD = struct.Struct("<QQ")
_FICLONE = 0x40049409
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
_CHUNK = 8 << 20


class GuestDisk:
    """One disk of one VM, as its guest sees it.

    Offsets and lengths are bytes and need not be aligned: file systems align their writes, tests should not have to.

    Args:
        folder: ``<lab>/disks/<vm>/<device key>``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not (folder / "base.raw").exists():
            raise GuestError(f"{folder.parent.name} has no disk {folder.name}")

    @property
    def size(self) -> int:
        """Capacity in bytes."""
        return (self._folder / "base.raw").stat().st_size

    def write(self, offset: int, data: bytes) -> None:
        """Write ``data`` at ``offset``."""
        with self._writing(offset, len(data)) as layer:
            _write_all(layer, data, offset)

    def discard(self, offset: int, length: int) -> None:
        """Trim: reads as zeros afterwards, and takes no space."""
        with self._writing(offset, length) as layer:
            punch(layer, offset, length)

    def touch(self, offset: int, length: int) -> None:
        """Report a change that is none, as trackers with coarse units do."""
        self._check(offset, length)
        with self._locked(fcntl.LOCK_EX):
            self._log(offset, length)

    def load(self, image: Path) -> None:
        """Replace the whole content by a raw image of the same size; holes stay holes."""
        size = image.stat().st_size
        if size != self.size:
            raise GuestError(f"{image} has {size} bytes, the disk {self.size}")
        with self._writing(0, size) as layer:
            os.ftruncate(layer, 0)
            os.ftruncate(layer, size)
            with image.open("rb") as source:
                copy_data(source.fileno(), layer, [(0, size)])

    def read(self, offset: int, length: int) -> bytes:
        """What the guest would read."""
        self._check(offset, length)
        with self._locked(fcntl.LOCK_SH):
            found = bytearray(length)
            for name in self._layers():
                with (self._folder / name).open("rb") as layer:
                    for start, size in self._held(name, offset, length):
                        found[start - offset : start - offset + size] = os.pread(layer.fileno(), size, start)
            return bytes(found)

    def image(self, out: Path) -> None:
        """Copy the disk of this moment as a sparse raw file."""
        with self._locked(fcntl.LOCK_SH), out.open("wb") as target:
            size = self.size
            base, *deltas = self._layers()
            os.ftruncate(target.fileno(), size)
            with (self._folder / base).open("rb") as source:
                if not _reflink(source.fileno(), target.fileno()):
                    copy_data(source.fileno(), target.fileno(), [(0, size)])
            for name in deltas:
                with (self._folder / name).open("rb") as source:
                    held = list(self._held(name, 0, size))
                    for start, length in held:
                        punch(target.fileno(), start, length)
                    copy_data(source.fileno(), target.fileno(), held)

    @contextlib.contextmanager
    def _writing(self, offset: int, length: int) -> Iterator[int]:
        """The topmost layer, open for a write that is logged first, so that a crash in between reports too much."""
        self._check(offset, length)
        with self._locked(fcntl.LOCK_EX):
            name = self._layers()[-1]
            self._log(offset, length)
            with (self._folder / name).open("r+b", buffering=0) as layer:
                yield layer.fileno()
            if name != "base.raw":
                _append(self._map(name), offset, length)

    def _check(self, offset: int, length: int) -> None:
        if offset < 0 or length < 0 or offset + length > self.size:
            raise GuestError(f"bytes {offset} to {offset + length} are not on a disk of {self.size}")

    def _log(self, offset: int, length: int) -> None:
        _append(self._folder / "changes.log", offset, length)

    def _map(self, name: str) -> Path:
        return (self._folder / name).with_suffix(".map")

    def _layers(self) -> list[str]:
        try:
            return (self._folder / "layers").read_text().split()
        except FileNotFoundError:
            return ["base.raw"]

    def _held(self, name: str, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Which parts of a range a layer has; a base has all."""
        if name == "base.raw":
            yield offset, length
            return
        for start, size in _RECORD.iter_unpack(self._map(name).read_bytes()):
            first, last = max(start, offset), min(start + size, offset + length)
            if first < last:
                yield first, last - first

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with (self._folder.parent / "lock").open("ab") as lock:
            fcntl.flock(lock, how)
            yield


def copy_data(source: int, target: int, ranges: list[tuple[int, int]]) -> None:
    """Copy ranges between files, leaving holes out; the target must read as zeros there already."""
    for start, length in ranges:
        at, end = start, start + length
        while at < end:
            try:
                data = os.lseek(source, at, os.SEEK_DATA)
            except OSError as ended:
                if ended.errno != errno.ENXIO:
                    raise
                break
            hole = min(os.lseek(source, data, os.SEEK_HOLE), end)
            while data < hole:
                data += _copy(source, target, data, hole - data)
            at = max(hole, data)


def _copy(source: int, target: int, offset: int, length: int) -> int:
    try:
        return os.copy_file_range(source, target, length, offset, offset)
    except OSError:
        # Between some file systems the kernel does not copy by itself; a real error shows again here.
        part = os.pread(source, min(_CHUNK, length), offset)
        _write_all(target, part, offset)
        return len(part)


def _write_all(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _append(path: Path, offset: int, length: int) -> None:
    with path.open("ab", buffering=0) as log:
        log.write(_RECORD.pack(offset, length))


def _reflink(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def punch(file: int, offset: int, length: int) -> None:
    """Make a hole."""
    if length == 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fallocate(file, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_longlong(offset), ctypes.c_longlong(length)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

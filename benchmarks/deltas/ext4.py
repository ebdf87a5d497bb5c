"""An ext4 image that is written without mounting it: files by debugfs, bytes of files by libext2fs itself.

Neither writes the journal. A real guest's journal adds its blocks to every delta, whoever encrypts.
"""

import contextlib
import ctypes
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.deltas.writes import BLOCK_BYTES
from common.extent import Extent, normalise

_UUID = "6b0b5c1e-5d0b-4a57-9d55-0d7e5c8f9a11"
_ENVIRON = {"E2FSPROGS_FAKE_TIME": "1700000000", "MKE2FS_SYNC": "0", "DEBUGFS_PAGER": "__none__"}
_ROOT_INODE = 2
_OPEN_READ_WRITE_64BIT = 0x1 | 0x20000
_FILE_WRITE = 1


def make(image: Path, size: int, root: Path) -> None:
    """A new file system of ``size`` bytes that holds what lies below ``root``."""
    with image.open("wb") as file:
        file.truncate(size)
    options = f"lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=0:0,hash_seed={_UUID}"
    _run("mkfs.ext4", "-q", "-F", "-b", str(BLOCK_BYTES), "-U", _UUID, "-E", options, "-d", str(root), str(image))


def change(image: Path, commands: Sequence[str]) -> None:
    """Commands of debugfs, in order. Raises RuntimeError when one was not done."""
    said = _run("debugfs", "-w", "-f", "-", str(image), given="\n".join(commands) + "\n")
    # It prints each command, and nothing else about a command that it did; "write" tells the inode.
    complaints = [line for line in said.splitlines() if not re.match(r"debugfs[: ]|Allocated inode:|$", line)]
    if complaints:
        raise RuntimeError(f"debugfs did not do all: {complaints[0]}")


def check(image: Path) -> None:
    """Raises CalledProcessError when the file system is not consistent."""
    _run("e2fsck", "-f", "-n", str(image))


def free(image: Path) -> tuple[Extent, ...]:
    """What no file uses."""
    ranges = []
    for line in re.findall(r"^  Free blocks: (.+)$", _run("dumpe2fs", str(image)), re.MULTILINE):
        for first, last in re.findall(r"(\d+)(?:-(\d+))?", line):
            ranges.append(Extent(int(first) * BLOCK_BYTES, (int(last or first) - int(first) + 1) * BLOCK_BYTES))
    return normalise(ranges)


class Files:
    """The bytes of files of an image, until the block ends; nobody else may have it open then."""

    def __init__(self, image: Path) -> None:
        self._library = ctypes.CDLL("libext2fs.so.2")
        self._image = image
        self._system = ctypes.c_void_p()

    def __enter__(self) -> Self:
        manager = ctypes.c_void_p.in_dll(self._library, "unix_io_manager")
        path = os.fsencode(self._image)
        self._call("open", path, _OPEN_READ_WRITE_64BIT, 0, 0, manager, ctypes.byref(self._system))
        self._call("read_bitmaps", self._system)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call("close", self._system)

    def write(self, path: str, offset: int, data: bytes) -> None:
        """Write into a file, or past its end."""
        with self._opened(path) as file:
            done = ctypes.c_uint()
            self._call("file_llseek", file, ctypes.c_uint64(offset), 0, None)
            self._call("file_write", file, data, len(data), ctypes.byref(done))
            if done.value != len(data):
                raise RuntimeError(f"{path}: wrote {done.value} of {len(data)} bytes")

    def size(self, path: str) -> int:
        """Bytes of a file."""
        with self._opened(path) as file:
            size = ctypes.c_uint64()
            self._call("file_get_lsize", file, ctypes.byref(size))
            return size.value

    def extents(self, path: str) -> tuple[Extent, ...]:
        """Where on the image a file's blocks lie."""
        inode = self._inode(path)
        found = []
        for block in range(-(-self.size(path) // BLOCK_BYTES)):
            place = ctypes.c_uint64()
            logical = ctypes.c_uint64(block)
            self._call("bmap2", self._system, inode, None, None, 0, logical, None, ctypes.byref(place))
            if place.value:
                found.append(Extent(place.value * BLOCK_BYTES, BLOCK_BYTES))
        return normalise(found)

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[ctypes.c_void_p]:
        file = ctypes.c_void_p()
        self._call("file_open", self._system, self._inode(path), _FILE_WRITE, ctypes.byref(file))
        try:
            yield file
        finally:
            self._call("file_close", file)

    def _inode(self, path: str) -> ctypes.c_uint:
        inode = ctypes.c_uint()
        self._call("namei", self._system, _ROOT_INODE, _ROOT_INODE, path.encode(), ctypes.byref(inode))
        return inode

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, f"ext2fs_{name}")
        function.restype = ctypes.c_long
        if code := function(*arguments):
            raise RuntimeError(f"ext2fs_{name} on {self._image.name} fails with {code}")


def _run(*command: str, given: str = "") -> str:
    env = os.environ | _ENVIRON | {"PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    done = subprocess.run(command, input=given, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout)[-500:]}")
    return done.stdout + "".join(line for line in done.stderr.splitlines(keepends=True)[1:])

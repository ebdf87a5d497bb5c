"""The store on a POSIX file system: every call that touches a stored file is in this module or in ``posix_file``.

Paths are walked name by name from the root's descriptor and no symbolic link is followed, so that nothing planted in
the tree leads outside. Files are 0600 while they are written and 0440 once protected; folders are 0700.
"""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from common.clock import SystemClock
from common.errors import (
    BusyError,
    NotFoundError,
    StoreError,
)
from target_appliance.store.paths import split_path
from target_appliance.store.port import LOCK_POLL_SECONDS, LOCK_SECONDS
from target_appliance.store.posix_file import PosixReadFile, PosixWriteFile, translated

_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_REOPEN_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# O_NONBLOCK keeps a planted FIFO from hanging the open; regular files ignore it.
_READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CLOCK: Final = SystemClock()
"""Only for how long a lock is waited for."""
_LOCK_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PosixStore:
    """A folder as a store. The folder must exist; it stays open, so that moving it away does not redirect the store.

    Raises:
        StoreError: ``root`` is not a folder that can be opened.
    """

    def __init__(self, root: Path) -> None:
        with _store_root(root):
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let go of the root; the store is unusable afterwards."""
        if self._root >= 0:
            root, self._root = self._root, -1
            os.close(root)

    def create(self, path: str) -> PosixWriteFile:
        """See Store."""
        with self._parent(path, "creating") as (folder, name):
            return PosixWriteFile(os.open(name, _CREATE_FLAGS, 0o600, dir_fd=folder), path)

    def reopen(self, path: str, size: int) -> PosixWriteFile:
        """See Store."""
        with self._parent(path, "opening") as (folder, name):
            descriptor = os.open(name, _REOPEN_FLAGS, dir_fd=folder)
            try:
                _require_writable(descriptor, size)
                os.ftruncate(descriptor, size)
                os.lseek(descriptor, size, os.SEEK_SET)
            except BaseException:
                os.close(descriptor)
                raise
            return PosixWriteFile(descriptor, path, size)

    def open(self, path: str) -> PosixReadFile:
        """See Store."""
        with self._parent(path, "opening") as (folder, name):
            descriptor = os.open(name, _READ_FLAGS, dir_fd=folder)
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                os.close(descriptor)
                raise OSError(errno.EINVAL, "it is not a regular file")
            return PosixReadFile(descriptor, path, found.st_size)

    def make_folder(self, path: str) -> None:
        """See Store."""
        with translated(path, "making folder"):
            folder = os.dup(self._root)
            try:
                for name in split_path(path):
                    try:
                        os.mkdir(name, 0o700, dir_fd=folder)
                    except FileExistsError:
                        pass
                    else:
                        os.fsync(folder)
                    inner = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
                    os.close(folder)
                    folder = inner
            finally:
                os.close(folder)

    def names(self, path: str) -> tuple[str, ...]:
        """See Store."""
        try:
            with self._folder(path, "listing") as folder, os.scandir(folder) as entries:
                return tuple(sorted(entry.name for entry in entries))
        except NotFoundError:
            return ()

    def rename(self, old: str, new: str) -> None:
        """See Store."""
        with self._parent(old, "renaming") as (source, old_name), self._parent(new, "renaming to") as (to, new_name):
            if stat.S_ISDIR(os.stat(old_name, dir_fd=source, follow_symlinks=False).st_mode) and _exists(to, new_name):
                raise OSError(errno.EEXIST, "it exists")
            os.rename(old_name, new_name, src_dir_fd=source, dst_dir_fd=to)

    def sync_folder(self, path: str) -> None:
        """See Store."""
        with self._folder(path, "syncing") as folder:
            os.fsync(folder)

    def protect(self, path: str) -> None:
        """See Store."""
        with self._parent(path, "protecting") as (folder, name):
            descriptor = os.open(name, _READ_FLAGS, dir_fd=folder)
            try:
                os.fchmod(descriptor, 0o440)
            finally:
                os.close(descriptor)

    def shred(self, path: str) -> None:
        """See Store."""
        try:
            with self._parent(path, "shredding") as (folder, name):
                _overwrite(folder, name)
                os.unlink(name, dir_fd=folder)
                os.fsync(folder)
        except NotFoundError:
            return

    def remove_tree(self, path: str) -> None:
        """See Store."""
        try:
            with self._parent(path, "removing") as (folder, name):
                shutil.rmtree(name, dir_fd=folder)
        except NotFoundError:
            return

    def free_bytes(self) -> int:
        """See Store."""
        with translated("/", "measuring"):
            found = os.fstatvfs(self._root)
            return found.f_bavail * found.f_frsize

    @contextmanager
    def lock(self, path: str, *, shared: bool = False, seconds: float | None = None) -> Iterator[None]:
        """See Store."""
        with self._parent(path, "locking") as (folder, name):
            descriptor = os.open(name, _LOCK_FLAGS, 0o600, dir_fd=folder)
        try:
            _take(descriptor, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, seconds)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _folder(self, path: str, doing: str) -> Iterator[int]:
        """A descriptor of the folder ``path``, walked to without following links."""
        with translated(path, doing):
            folder = self._walk(split_path(path))
            try:
                yield folder
            finally:
                os.close(folder)

    @contextmanager
    def _parent(self, path: str, doing: str) -> Iterator[tuple[int, str]]:
        """A descriptor of the folder that holds ``path``, and its name in there."""
        *folders, name = split_path(path)
        with translated(path, doing):
            folder = self._walk(folders)
            try:
                yield folder, name
            finally:
                os.close(folder)

    def _walk(self, names: Sequence[str]) -> int:
        folder = os.dup(self._root)
        for name in names:
            try:
                inner = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
            finally:
                os.close(folder)
            folder = inner
        return folder


def _overwrite(folder: int, name: str) -> None:
    reading = os.open(name, _READ_FLAGS, dir_fd=folder)
    try:
        os.fchmod(reading, 0o600)
    finally:
        os.close(reading)
    descriptor = os.open(name, _REOPEN_FLAGS, dir_fd=folder)
    try:
        left, offset = os.fstat(descriptor).st_size, 0
        while left > offset:
            offset += os.pwrite(descriptor, bytes(min(left - offset, 1 << 16)), offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int, path: str, how: int, seconds: float | None) -> None:
    """Lock an open file. Each opening of it is another holder, a thread's too."""
    wait = LOCK_SECONDS if seconds is None else seconds
    deadline = _CLOCK.monotonic() + wait
    while True:
        try:
            with translated(path, "locking"):
                fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except StoreError as error:
            if not isinstance(error.__cause__, BlockingIOError):
                raise
        else:
            return
        if _CLOCK.monotonic() >= deadline:
            raise lock_held(path, wait)
        _CLOCK.sleep(LOCK_POLL_SECONDS)


def lock_held(path: str, seconds: float) -> BusyError:
    """Somebody else holds the lock at ``path`` for too long."""
    return BusyError(
        f"{path} has been locked by somebody else for {seconds:.0f} s",
        subject=f"store file {path}",
        next_step="wait for the command that holds it, then try again",
    )


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


@contextmanager
def _store_root(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the store folder {root} cannot be opened: {error.strerror}",
            subject="store",
            next_step="create the folder, or correct store_dir in the configuration",
        ) from error


def _require_writable(descriptor: int, size: int) -> None:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or not found.st_mode & stat.S_IWUSR:
        raise OSError(errno.EINVAL, "it is not a file that may be written")
    if found.st_size < size:
        raise OSError(errno.EINVAL, f"it has {found.st_size} bytes of {size}")

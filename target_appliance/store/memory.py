"""A store in this process's memory: the port's reference, for tests. Nothing survives the process."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from common.closing import Closing
from common.errors import AlreadyExistsError, BusyError, NotFoundError, StoreError
from target_appliance.store.paths import split_path
from target_appliance.store.port import LOCK_SECONDS

_ROOM_BYTES = 1 << 40


class MemoryWriteFile(Closing):
    """See WriteFile."""

    def __init__(self, content: bytearray) -> None:
        self._content = content

    @property
    def position(self) -> int:
        """See WriteFile."""
        return len(self._content)

    def append(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """See WriteFile."""
        for piece in pieces:
            self._content += piece

    def overwrite(self, offset: int, data: bytes) -> None:
        """See WriteFile."""
        if offset + len(data) > len(self._content):
            raise ValueError("overwrite reaches past what was written")
        self._content[offset : offset + len(data)] = data

    def sync(self) -> None:
        """See WriteFile."""

    def close(self) -> None:
        """See WriteFile."""


class MemoryReadFile(Closing):
    """See ReadFile."""

    def __init__(self, content: bytearray) -> None:
        self._content = content
        self.size = len(content)

    def read_at(self, offset: int, length: int) -> bytes:
        """See ReadFile."""
        return bytes(memoryview(self._content)[offset : offset + length])

    def close(self) -> None:
        """See ReadFile."""


class MemoryStore:
    """A dict of paths. ``content`` is the test's door to the bytes of a file."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: dict[tuple[str, ...], bytearray] = {}
        self._folders: set[tuple[str, ...]] = {()}
        self._protected: set[tuple[str, ...]] = set()
        self._freed = threading.Condition()
        self._holders: dict[tuple[str, ...], int] = {}
        """Of lock files: how many hold one together, or -1 for one alone."""

    def content(self, path: str) -> bytearray:
        """The bytes of a file, to look at or to damage."""
        return self._files[split_path(path)]

    def create(self, path: str) -> MemoryWriteFile:
        """See Store."""
        names = split_path(path)
        with self._lock:
            self._require_folder(names[:-1], path)
            if names in self._files or names in self._folders:
                raise _exists(path)
            content = self._files[names] = bytearray()
            self._protected.discard(names)
        return MemoryWriteFile(content)

    def reopen(self, path: str, size: int) -> MemoryWriteFile:
        """See Store."""
        names = split_path(path)
        with self._lock:
            if names not in self._files:
                raise _missing(path)
            content = self._files[names]
            if names in self._protected or len(content) < size:
                raise StoreError(
                    f"opening {path} failed: it is read-only or too short",
                    subject=f"store file {path}",
                    next_step="check the store",
                )
            del content[size:]
            return MemoryWriteFile(content)

    def open(self, path: str) -> MemoryReadFile:
        """See Store."""
        names = split_path(path)
        with self._lock:
            if names in self._folders:
                raise StoreError(
                    f"opening {path} failed: it is not a regular file",
                    subject=f"store file {path}",
                    next_step="check the store",
                )
            if names not in self._files:
                raise _missing(path)
            return MemoryReadFile(self._files[names])

    def make_folder(self, path: str) -> None:
        """See Store."""
        names = split_path(path)
        with self._lock:
            for depth in range(1, len(names) + 1):
                if names[:depth] in self._files:
                    raise _exists(path)
                self._folders.add(names[:depth])

    def names(self, path: str) -> tuple[str, ...]:
        """See Store."""
        names = split_path(path)
        with self._lock:
            entries = [entry for entry in (*self._files, *self._folders) if entry]
            return tuple(sorted(entry[-1] for entry in entries if entry[:-1] == names))

    def rename(self, old: str, new: str) -> None:
        """See Store."""
        source, to = split_path(old), split_path(new)
        with self._lock:
            self._require_folder(to[:-1], new)
            if source in self._files:
                if to in self._folders:
                    raise _exists(new)
                self._files[to] = self._files.pop(source)
                return
            self._require_folder(source, old)
            if to in self._folders or to in self._files:
                raise _exists(new)
            depth = len(source)
            self._folders = {to + entry[depth:] if entry[:depth] == source else entry for entry in self._folders}
            self._files = {
                (to + entry[depth:] if entry[:depth] == source else entry): content
                for entry, content in self._files.items()
            }

    def sync_folder(self, path: str) -> None:
        """See Store."""
        with self._lock:
            self._require_folder(split_path(path), path)

    def protect(self, path: str) -> None:
        """See Store."""
        with self._lock:
            if split_path(path) not in self._files:
                raise _missing(path)
            self._protected.add(split_path(path))

    def shred(self, path: str) -> None:
        """See Store."""
        with self._lock:
            content = self._files.pop(split_path(path), bytearray())
            content[:] = bytes(len(content))

    def remove_tree(self, path: str) -> None:
        """See Store."""
        names = split_path(path)
        depth = len(names)
        with self._lock:
            self._folders = {entry for entry in self._folders if entry[:depth] != names}
            self._files = {entry: content for entry, content in self._files.items() if entry[:depth] != names}

    def free_bytes(self) -> int:
        """See Store."""
        return _ROOM_BYTES

    @contextmanager
    def lock(self, path: str, *, shared: bool = False, seconds: float | None = None) -> Iterator[None]:
        """See Store."""
        names = split_path(path)
        with self._lock:
            self._require_folder(names[:-1], path)

        def free() -> bool:
            holders = self._holders.get(names, 0)
            return holders >= 0 if shared else holders == 0

        with self._freed:
            if not self._freed.wait_for(free, LOCK_SECONDS if seconds is None else seconds):
                raise BusyError(f"{path} is locked", subject=f"store file {path}", next_step="try again")
            self._holders[names] = self._holders.get(names, 0) + 1 if shared else -1
        try:
            yield
        finally:
            with self._freed:
                self._holders[names] = self._holders[names] - 1 if shared else 0
                self._freed.notify_all()

    def _require_folder(self, names: tuple[str, ...], path: str) -> None:
        if names not in self._folders:
            raise _missing(path)


def _missing(path: str) -> NotFoundError:
    return NotFoundError(f"{path} is not in the store", subject=f"store file {path}", next_step="check the name")


def _exists(path: str) -> AlreadyExistsError:
    return AlreadyExistsError(
        f"{path} is in the store already", subject=f"store file {path}", next_step="remove it or use another name"
    )

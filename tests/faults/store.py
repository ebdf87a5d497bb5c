"""A store that fails or dies at its k-th call, and counts and names its calls."""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field

from common.errors import StoreError, StoreFullError


class Killed(BaseException):
    """The process ended here; nothing of ours catches it."""


def io_error(call: str) -> StoreError:
    """What EIO becomes."""
    return StoreError(f"{call} failed: Input/output error", subject="store", next_step="check the disk")


def no_room(call: str) -> StoreFullError:
    """What ENOSPC becomes."""
    return StoreFullError(f"{call} failed: No space left on device", subject="store", next_step="free space")


def killed(call: str) -> Killed:
    """What kill -9 does."""
    return Killed(call)


@dataclass
class Trap:
    """Which call goes wrong. Counts from 1 over the store and all its files; ``only`` narrows what is counted."""

    at: int = 0
    error: Callable[[str], BaseException] = io_error
    only: tuple[str, ...] = ()
    for_good: bool = False
    """Fail every later call as well: a killed process does nothing any more."""
    calls: list[str] = field(default_factory=list)

    def call(self, name: str, path: str) -> None:
        """One call; raises when it is the one."""
        if self.only and name not in self.only:
            return
        self.calls.append(f"{name} {path.rsplit('/', 1)[-1]}")
        if len(self.calls) == self.at or (self.for_good and 0 < self.at < len(self.calls)):
            raise self.error(self.calls[-1])


class FaultFile:
    """A file of a FaultStore, for reading or writing."""

    def __init__(self, inner, path, trap):
        self._inner, self._path, self._trap = inner, path, trap

    @property
    def position(self):
        return self._inner.position

    @property
    def size(self):
        return self._inner.size

    def append(self, pieces):
        self._trap.call("append", self._path)
        self._inner.append(pieces)

    def overwrite(self, offset, data):
        self._trap.call("overwrite", self._path)
        self._inner.overwrite(offset, data)

    def sync(self):
        self._trap.call("sync", self._path)
        self._inner.sync()

    def read_at(self, offset, length):
        self._trap.call("read_at", self._path)
        return self._inner.read_at(offset, length)

    def close(self):
        self._inner.close()

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.close()


class FaultStore:
    """See Store; every call passes the trap first."""

    def __init__(self, inner, trap=None):
        self._inner = inner
        self.trap = trap or Trap()

    def create(self, path):
        self.trap.call("create", path)
        return FaultFile(self._inner.create(path), path, self.trap)

    def reopen(self, path, size):
        self.trap.call("reopen", path)
        return FaultFile(self._inner.reopen(path, size), path, self.trap)

    def open(self, path):
        self.trap.call("open", path)
        return FaultFile(self._inner.open(path), path, self.trap)

    def make_folder(self, path):
        self.trap.call("make_folder", path)
        self._inner.make_folder(path)

    def names(self, path):
        self.trap.call("names", path)
        return self._inner.names(path)

    def rename(self, old, new):
        self.trap.call("rename", new)
        self._inner.rename(old, new)

    def sync_folder(self, path):
        self.trap.call("sync_folder", path)
        self._inner.sync_folder(path)

    def protect(self, path):
        self.trap.call("protect", path)
        self._inner.protect(path)

    def shred(self, path):
        self.trap.call("shred", path)
        self._inner.shred(path)

    def remove_tree(self, path):
        self.trap.call("remove_tree", path)
        self._inner.remove_tree(path)

    def free_bytes(self):
        self.trap.call("free_bytes", "/")
        return self._inner.free_bytes()

    @contextmanager
    def lock(self, path, **how):
        self.trap.call("lock", path)
        with self._inner.lock(path, **how):
            yield

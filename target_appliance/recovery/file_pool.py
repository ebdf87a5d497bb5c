"""Open files of a long chain, a bounded number at a time: what was closed is opened again when it is read."""

import threading
from collections import OrderedDict
from typing import Final

from common.closing import Closing
from target_appliance.store.port import ReadFile, Store

_OPEN_MOST: Final = 128


class FilePool:
    """Files of one store. Thread-safe; a file that is being read is never closed."""

    def __init__(self, store: Store, most: int = _OPEN_MOST) -> None:
        self._store = store
        self._most = most
        self._lock = threading.Lock()
        self._open: OrderedDict[str, ReadFile] = OrderedDict()
        self._readers: dict[str, int] = {}

    def file(self, path: str) -> "PooledFile":
        """The file at ``path``, which must exist now. Raises what Store.open raises."""
        file = self._take(path)
        try:
            return PooledFile(self, path, file.size)
        finally:
            self._give_back(path)

    def read_at(self, path: str, offset: int, length: int) -> bytes:
        """See ReadFile."""
        file = self._take(path)
        try:
            return file.read_at(offset, length)
        finally:
            self._give_back(path)

    def close(self) -> None:
        """Close all files; nobody may be reading."""
        with self._lock:
            for file in self._open.values():
                file.close()
            self._open.clear()

    def _take(self, path: str) -> ReadFile:
        with self._lock:
            file = self._open.get(path)
            if file is None:
                file = self._open[path] = self._store.open(path)
            self._open.move_to_end(path)
            self._readers[path] = self._readers.get(path, 0) + 1
            return file

    def _give_back(self, path: str) -> None:
        with self._lock:
            self._readers[path] -= 1
            if not self._readers[path]:
                del self._readers[path]
            idle = [name for name in self._open if name not in self._readers] if len(self._open) > self._most else []
            for name in idle[: len(self._open) - self._most]:
                self._open.pop(name).close()


class PooledFile(Closing):
    """See ReadFile. Closing it does nothing: the pool closes."""

    def __init__(self, pool: FilePool, path: str, size: int) -> None:
        self._pool = pool
        self._path = path
        self.size = size

    def read_at(self, offset: int, length: int) -> bytes:
        """See ReadFile."""
        return self._pool.read_at(self._path, offset, length)

    def close(self) -> None:
        """See ReadFile."""

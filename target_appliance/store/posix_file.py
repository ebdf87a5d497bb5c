"""Open files of the POSIX store, and what the medium's errors mean."""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from common.closing import Closing
from common.errors import AlreadyExistsError, KeysapartError, NotFoundError, StoreError, StoreFullError

_PIECES_MOST: Final = 512
"""Buffers in one writev; Linux takes 1024."""


def translate(error: OSError, path: str, doing: str) -> KeysapartError:
    """The tree's error for what the medium said."""
    subject = f"store file {path}"
    said = f"{doing} {path} failed ({error.strerror or error})"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoreFullError(
            f"the target's store is full: {said}",
            subject=subject,
            next_step="free space in the store or enlarge it; committed points are untouched",
        )
    if error.errno == errno.ENOENT:
        return NotFoundError(f"{path} is not in the store", subject=subject, next_step="check the name")
    if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
        return AlreadyExistsError(
            f"{path} is in the store already", subject=subject, next_step="remove it or use another name"
        )
    return StoreError(said, subject=subject, next_step="check the store's file system and its permissions")


@contextmanager
def translated(path: str, doing: str) -> Iterator[None]:
    """Raise the tree's error for the medium's."""
    try:
        yield
    except OSError as error:
        raise translate(error, path, doing) from error


class PosixWriteFile(Closing):
    """See WriteFile. After a failed write or sync every later call fails: the kernel may have dropped the pages."""

    def __init__(self, descriptor: int, path: str, position: int = 0) -> None:
        self._descriptor = descriptor
        self._path = path
        self._position = position
        self._failed = False

    @property
    def position(self) -> int:
        """See WriteFile."""
        return self._position

    def append(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """See WriteFile."""
        with self._guarded("writing"):
            views = [memoryview(piece).cast("B") for piece in pieces if len(piece)]
            while views:
                written = os.writev(self._descriptor, views[:_PIECES_MOST])
                self._position += written
                done = 0
                while done < len(views) and written >= len(views[done]):
                    written -= len(views[done])
                    done += 1
                views = views[done:]
                if written:
                    views[0] = views[0][written:]

    def overwrite(self, offset: int, data: bytes) -> None:
        """See WriteFile."""
        if offset + len(data) > self._position:
            raise ValueError("overwrite reaches past what was written")
        with self._guarded("writing"):
            view = memoryview(data)
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                offset += written
                view = view[written:]

    def sync(self) -> None:
        """See WriteFile."""
        with self._guarded("syncing"):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """See WriteFile."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with translated(self._path, "closing"):
                os.close(descriptor)

    @contextmanager
    def _guarded(self, doing: str) -> Iterator[None]:
        if self._failed:
            raise StoreError(
                f"{doing} {self._path} is refused: an earlier write or sync of it failed",
                subject=f"store file {self._path}",
                next_step="start the sync again",
            )
        try:
            yield
        except OSError as error:
            self._failed = True
            raise translate(error, self._path, doing) from error


class PosixReadFile(Closing):
    """See ReadFile."""

    def __init__(self, descriptor: int, path: str, size: int) -> None:
        self._descriptor = descriptor
        self._path = path
        self.size = size

    def read_at(self, offset: int, length: int) -> bytes:
        """See ReadFile."""
        with translated(self._path, "reading"):
            data = os.pread(self._descriptor, length, offset)
            if len(data) == length or not data:
                return data
            parts = [data]
            missing = length - len(data)
            while missing and (data := os.pread(self._descriptor, missing, offset + length - missing)):
                parts.append(data)
                missing -= len(data)
            return b"".join(parts)

    def close(self) -> None:
        """See ReadFile."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

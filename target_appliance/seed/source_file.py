"""A file of an image, open for reading; what the medium says becomes an error of the tree."""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.closing import Closing
from common.errors import InvalidInputError, NotFoundError
from common.extent import Extent


def refuse(path: Path, why: str) -> InvalidInputError:
    """The error for an image that cannot be used, to be raised."""
    return InvalidInputError(
        f"{path} cannot be imported: {why}",
        subject=f"file {path}",
        next_step="give a whole disk as raw, or as VMDK (flat, sparse or stream-optimised)",
    )


def _require_bytes(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode) and not stat.S_ISBLK(mode):
        raise refuse(path, "it is neither a file nor a block device")


class SourceFile(Closing):
    """A regular file or a block device. Thread-safe.

    Raises:
        NotFoundError: there is none.
        InvalidInputError: it is something else, or may not be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._translated():
            # Not blocking: a pipe without a writer is refused below, not waited for.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = os.fstat(self._descriptor)
            _require_bytes(path, found.st_mode)
            with self._translated():
                self.size = os.lseek(self._descriptor, 0, os.SEEK_END)
            self.changed = int(found.st_mtime)
            """When it was last written, in seconds since 1970."""
        except BaseException:
            self.close()
            raise

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly those bytes. Raises InvalidInputError."""
        buffer = bytearray(length)
        self.read_into(offset, memoryview(buffer))
        return bytes(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer``. Raises InvalidInputError."""
        if offset + len(buffer) > self.size:
            raise refuse(self.path, f"it ends at byte {self.size}, before the disk does")
        while buffer:
            with self._translated():
                count = os.preadv(self._descriptor, [buffer], offset)
            if not count:
                raise refuse(self.path, f"it ends at byte {offset}, before the disk does")
            offset, buffer = offset + count, buffer[count:]

    def data(self, start: int, end: int) -> Iterator[Extent]:
        """What is no hole between two bytes, rising; where holes cannot be told, all of it."""
        while start < end:
            try:
                begin = os.lseek(self._descriptor, start, os.SEEK_DATA)
                stop = os.lseek(self._descriptor, begin, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:
                    return
                begin, stop = start, end
            if begin >= end:
                return
            yield Extent(begin, min(stop, end) - begin)
            start = stop

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._descriptor)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise NotFoundError(
                f"there is no file {self.path}", subject=f"file {self.path}", next_step="check the path"
            ) from None
        except OSError as error:
            raise refuse(self.path, f"it cannot be read ({error.strerror})") from error

"""A file being exported: made beside its final name, durable, and named only when complete.

It holds a guest's plaintext, so it is 0600 from its first byte, and removed when the export fails.
"""

import errno
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from common.closing import Closing
from common.errors import AlreadyExistsError, KeysapartError, NotFoundError, StoreError, StoreFullError

_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def translate(error: OSError, path: Path) -> KeysapartError:
    """The tree's error for what the medium of ``path`` said."""
    subject = f"file {path}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreFullError(
            f"{path} does not fit: {error.strerror}", subject=subject, next_step="free space there, or export elsewhere"
        )
    if error.errno == errno.ENOENT:
        return NotFoundError(
            f"the folder of {path} does not exist", subject=subject, next_step="make the folder, or export elsewhere"
        )
    return StoreError(
        f"{path} cannot be written: {error.strerror}", subject=subject, next_step="check the folder's permissions"
    )


def refuse_existing(path: Path) -> None:
    """Raises AlreadyExistsError when something is called ``path``."""
    if os.path.lexists(path):
        raise AlreadyExistsError(
            f"{path} is there already", subject=f"file {path}", next_step="remove it or give another name"
        )


class Output(Closing):
    """A new file that will be called ``path``; a WriteFile that can also leave holes. One thread at a time.

    Leaving the ``with`` block without ``publish`` removes what was written.
    """

    def __init__(self, path: Path) -> None:
        refuse_existing(path)
        self._path = path
        self._partial = path.with_name(f".{path.name[:200]}.{secrets.token_hex(8)}.partial")
        self._position = 0
        with self._translated():
            self._descriptor = os.open(self._partial, _FLAGS, 0o600)

    @property
    def position(self) -> int:
        """Where the next ``append`` writes."""
        return self._position

    def append(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write all pieces behind one another."""
        for piece in pieces:
            self._write(self._position, memoryview(piece))
            self._position += len(piece)

    def overwrite(self, offset: int, data: bytes | memoryview) -> None:
        """Write at ``offset``, wherever that is."""
        self._write(offset, memoryview(data))

    def skip_to(self, offset: int) -> None:
        """Leave a hole: zeros that take no room."""
        self._position = offset

    def end_at(self, size: int) -> None:
        """Give the file this size, by a hole or a cut."""
        with self._translated():
            os.ftruncate(self._descriptor, size)

    def sync(self) -> None:
        """Make durable what was written."""
        with self._translated():
            os.fsync(self._descriptor)

    def publish(self) -> None:
        """Make the file durable under its name. Raises AlreadyExistsError when the name was taken meanwhile."""
        self.sync()
        refuse_existing(self._path)
        with self._translated():
            self._partial.rename(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def close(self) -> None:
        """Close the file, and remove it unless it was published."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)
            self._partial.unlink(missing_ok=True)

    def _write(self, offset: int, view: memoryview) -> None:
        with self._translated():
            while view:
                written = os.pwrite(self._descriptor, view, offset)
                offset += written
                view = view[written:]

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise translate(error, self._path) from error

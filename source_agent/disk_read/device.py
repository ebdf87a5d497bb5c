"""An open disk that is a path: a block device, or a regular file that stands for one."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from common.errors import InternalError, KeysapartError, SourceError
from common.extent import Extent
from source_agent.disk_read.port import MOST_BYTES

SECTOR_BYTES = 512
_NEXT_STEP = "run the sync again; if it fails at the same place, check the datastore and the VM's disk chain"


def data_runs(fd: int, wanted: Extent) -> list[Extent]:
    """Parts of ``wanted`` that are not holes of the regular file ``fd``, sorted and disjoint."""
    runs: list[Extent] = []
    offset = wanted.offset
    while offset < wanted.end:
        try:
            begin = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole up to the end of the file
            break
        if begin >= wanted.end:
            break
        end = min(os.lseek(fd, begin, os.SEEK_HOLE), wanted.end)
        runs.append(Extent(begin, end - begin))
        offset = end
    return runs


class DeviceDisk:
    """See ``port.OpenDisk``. ``release`` is called once, after the descriptor was closed."""

    def __init__(self, path: Path, capacity_bytes: int, subject: str, release: Callable[[], None]) -> None:
        self._capacity = capacity_bytes
        self._subject = subject
        self._release: Callable[[], None] | None = release
        self._free: list[memoryview] = []
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._failed(f"cannot be opened ({error.strerror})") from error
        try:
            self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
            self._require_size()
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        except BaseException:
            os.close(self._fd)
            raise

    def _failed(self, what: str) -> SourceError:
        return SourceError(f"{self._subject} {what}", subject=self._subject, next_step=_NEXT_STEP)

    def _misused(self, length: int, offset: int) -> InternalError:
        return InternalError(
            f"read of {length} bytes at {offset} does not fit the disk",
            subject=self._subject,
            next_step="report this with the log",
        )

    def _require_size(self) -> None:
        size = os.lseek(self._fd, 0, os.SEEK_END)
        if size < self._capacity:
            raise self._failed(f"shows {size} bytes where the snapshot has {self._capacity}")

    @contextmanager
    def lend(self, piece: Extent) -> Iterator[memoryview]:
        """See OpenDisk; in a buffer that was lent before, if one is free: a new one is filled with zeros first."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = memoryview(bytearray(MOST_BYTES))
        try:
            lent = buffer[: piece.length]
            if len(lent) < piece.length:
                raise self._misused(piece.length, piece.offset)
            self.read_into(piece.offset, lent)
            yield lent
        finally:
            self._free.append(buffer)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the bytes from ``offset`` on, all of it; fails as ``lend`` does."""
        if offset < 0 or offset % SECTOR_BYTES or len(buffer) % SECTOR_BYTES or offset + len(buffer) > self._capacity:
            raise self._misused(len(buffer), offset)
        done = 0
        while done < len(buffer):
            try:
                count = os.preadv(self._fd, [buffer[done:]], offset + done)
            except OSError as error:
                raise self._failed(f"cannot be read at byte {offset + done} ({error.strerror})") from error
            if not count:
                raise self._failed(f"ends at byte {offset + done}, {len(buffer) - done} bytes short of what was asked")
            done += count

    def allocated(self, wanted: Extent) -> Iterable[Extent]:
        """See OpenDisk. A block device does not tell holes from data, so all of it may hold some."""
        if not self._regular:
            return [wanted] if wanted.length else []
        return data_runs(self._fd, wanted)

    def expect(self, pieces: Iterable[Extent]) -> None:
        """See OpenDisk; the kernel reads ahead by itself."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close, then release; a second call does nothing.

        A release that fails becomes a note of the block's own error, or is raised where there is none.
        """
        release, self._release = self._release, None
        if release is None:
            return
        closed, self._fd = self._fd, -1  # a read that comes late must not meet another file under this number
        os.close(closed)
        try:
            release()
        except KeysapartError as failed:
            if error is None:
                raise
            error.add_note(failed.message)

"""What the appliance asks of a store: folders of files that are written once, made durable, then renamed into place.

Paths are relative, made of names that ``common.ids`` has parsed or that are fixed in the code, joined by ``/``. Drivers
never follow a symbolic link, never leave their root, and pass ``tests/contracts/test_store_contract.py``. A wrapper
with the same port injects faults (``tests/faults``).

What a store must offer: atomic rename of a folder within the store, exclusive creation, durable folders after
``sync_folder``, files past 2 TiB. Failure kinds: StoreFullError (no room), StoreError (anything else the medium did;
never called corruption), NotFoundError (no such file or folder), AlreadyExistsError.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Protocol, Self

LOCK_SECONDS: Final = 15.0
"""How long a lock is waited for; below the deadline of any call that waits."""
LOCK_POLL_SECONDS: Final = 0.02


class WriteFile(Protocol):
    """A file being written, front to back, by one thread."""

    @property
    def position(self) -> int:
        """Bytes written so far."""
        ...

    def append(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """Write all pieces behind one another; the buffers stay the caller's."""
        ...

    def overwrite(self, offset: int, data: bytes) -> None:
        """Replace bytes already written, for headers that are known last."""
        ...

    def sync(self) -> None:
        """Make durable what was written. A failure here is final for the file: it is never retried to success."""
        ...

    def close(self) -> None:
        """Close without making durable."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class ReadFile(Protocol):
    """A file open for reading; ``read_at`` may be called from several threads."""

    @property
    def size(self) -> int:
        """Bytes in the file."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """At most ``length`` bytes from ``offset``; shorter only at the end of the file."""
        ...

    def close(self) -> None:
        """Give the file back."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Store(Protocol):
    """A tree of files."""

    def create(self, path: str) -> WriteFile:
        """A new file; its folder must exist. Raises AlreadyExistsError."""
        ...

    def reopen(self, path: str, size: int) -> WriteFile:
        """A file that is not protected yet, to be written on from byte ``size``; what lies behind is cut off.

        Raises:
            NotFoundError: there is no such file.
            StoreError: it is shorter.
        """
        ...

    def open(self, path: str) -> ReadFile:
        """An existing regular file. Raises NotFoundError."""
        ...

    def make_folder(self, path: str) -> None:
        """Make a folder and its missing parents, durable; an existing one is fine."""
        ...

    def names(self, path: str) -> tuple[str, ...]:
        """Names in a folder, sorted; empty when the folder does not exist."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Move a file or folder; a file replaces an existing file, a folder never replaces anything."""
        ...

    def sync_folder(self, path: str) -> None:
        """Make the names in a folder durable."""
        ...

    def protect(self, path: str) -> None:
        """Make a file read-only for good."""
        ...

    def shred(self, path: str) -> None:
        """Overwrite a file, read-only or not, with zeros, durably, and remove it; a missing one is fine.

        What lay under it in a file system that copies on write, or in a disk's spare blocks, is not reached.
        """
        ...

    def remove_tree(self, path: str) -> None:
        """Remove a folder with all in it; a missing one is fine."""
        ...

    def free_bytes(self) -> int:
        """Room left for new data."""
        ...

    def lock(self, path: str, *, shared: bool = False, seconds: float | None = None) -> AbstractContextManager[None]:
        """Hold the lock file at ``path`` for the length of the block, alone among all threads and processes.

        The file is made where it is missing, and stays; its folder must exist. A process that dies lets go. Not
        reentrant. The block may end in another thread than it began in.

        Args:
            path: of the lock file.
            shared: together with all others who hold it so.
            seconds: how long to wait for it; LOCK_SECONDS if left out, 0 to ask once.

        Raises:
            BusyError: somebody else has held it for so long.
        """
        ...

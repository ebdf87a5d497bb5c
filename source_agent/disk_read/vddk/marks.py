"""What a process has asked the library to hold, on disk before it asks; so that a later one can undo it.

One file each, ``<folder>/<kind>-<name>``, locked for as long as its process lives: a file that can be locked belongs to
nobody.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PREPARED: Final = "prepared"
"""A VM that may not be moved; the name is its moref."""
ATTACHED: Final = "attached"
"""Disks that the library may have attached to the agent's VM."""


class Mark:
    """A file that says so for as long as this process lives, or until ``remove``."""

    def __init__(self, folder: Path, kind: str, name: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = folder / f"{kind}-{name}"
        self._file = _locked(self._path)

    def remove(self) -> None:
        """What it says is over."""
        self._path.unlink(missing_ok=True)
        self.leave()

    def leave(self) -> None:
        """Let a later process see to it."""
        os.close(self._file)


def _locked(path: Path) -> int:
    """The file, made when missing and locked; again when somebody who tidied up removed it meanwhile."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_nlink:
            return file
        os.close(file)


@contextmanager
def orphans(folder: Path, kind: str) -> Iterator[list[Path]]:
    """Marks of a kind whose processes are gone, locked while the block runs; the block unlinks what it saw to."""
    held: list[int] = []
    found: list[Path] = []
    try:
        for path in sorted(folder.glob(f"{kind}-*")):
            with suppress(FileNotFoundError):
                file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                held.append(file)
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    found.append(path)
        yield found
    finally:
        for file in held:
            os.close(file)


def name_of(mark: Path) -> str:
    """What a mark was made for."""
    return mark.name.partition("-")[2]

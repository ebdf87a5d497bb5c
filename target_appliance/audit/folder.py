"""The audit log's files: ``audit/000001.jsonl`` and on, and the lock that whoever writes holds."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from common.private_file import PRIVATE, sync_folder

_NAME: Final = re.compile(r"[0-9]{6,}\.jsonl")
_LOCK: Final = "lock"


def files(folder: Path) -> list[Path]:
    """The log's files, oldest first; empty when there is no log."""
    try:
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except FileNotFoundError:
        return []
    return sorted(found, key=lambda path: int(path.stem))


def next_file(folder: Path, last: Path | None) -> Path:
    """The name of the file after ``last``."""
    number = 1 if last is None else int(last.stem) + 1
    return folder / f"{number:06d}.jsonl"


def create(path: Path) -> int:
    """Make and open a file for appending, its name durable; the caller closes the handle."""
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    sync_folder(path.parent)
    return handle


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the log against other processes; with ``shared`` against writers only, for which reading it is enough."""
    try:
        handle = os.open(folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC | (0 if shared else os.O_CREAT), PRIVATE)
    except FileNotFoundError:
        if not shared:
            raise
        yield  # a copy: nobody writes it
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # which gives the lock free

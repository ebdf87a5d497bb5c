"""What this process has attached, on stable storage before it is attached; so that a later one can detach it.

One file a process, ``<state>/hotadd/<uuid>.journal``, a JSON object a line, only ever appended to, and locked for as
long as the process lives: a file that can be locked belongs to nobody. A torn last line is one that was never acted
upon.
"""

import fcntl
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from common.ids import DiskKey

_SUFFIX = ".journal"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A disk that is, or was about to be, attached to the agent's VM."""

    number: int
    """Unique within its journal."""
    vm: str
    """Moref of the agent's VM."""
    backing_path: str
    uuid: str
    key: DiskKey | None
    """Device key on the agent's VM; None while the outcome of attaching is unknown."""


def _parse(raw: bytes) -> dict[int, Attachment]:
    """What is still attached by the lines of a journal."""
    found: dict[int, Attachment] = {}
    for line in raw.splitlines():
        try:
            entry = json.loads(line)
            number = int(entry["number"])
            if entry["what"] == "intend":
                found[number] = Attachment(number, entry["vm"], entry["path"], entry["uuid"], None)
            elif entry["what"] == "attached":
                found[number] = replace(found[number], key=DiskKey(entry["key"]))
            else:
                found.pop(number)
        except (ValueError, KeyError, TypeError):
            continue
    return found


def _lock(file: int) -> bool:
    """Take the file's lock; False when another process has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Orphan:
    """The journal of a process that is gone."""

    path: Path
    attachments: tuple[Attachment, ...]

    def settle(self) -> None:
        """Nothing of it is attached any more: remove it."""
        self.path.unlink(missing_ok=True)


class Journal:
    """This process's journal; the file is made with the first entry. Not safe for threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: int | None = None
        self._path = folder / f"{uuid.uuid4()}{_SUFFIX}"
        self._open: dict[int, Attachment] = {}
        self._next = 1
        self._seen_to: set[Path] = set()
        """Orphans that this process holds the lock of, and which therefore look alive."""

    def intend(self, vm: str, backing_path: str, disk_uuid: str) -> Attachment:
        """Record that the disk will be attached now."""
        entry = Attachment(self._next, vm, backing_path, disk_uuid, None)
        self._next += 1
        self._append({"number": entry.number, "what": "intend", "vm": vm, "path": backing_path, "uuid": disk_uuid})
        self._open[entry.number] = entry
        return entry

    def attached(self, entry: Attachment, key: DiskKey) -> None:
        """Record under which key it is attached."""
        self._append({"number": entry.number, "what": "attached", "key": key})
        self._open[entry.number] = replace(entry, key=key)

    def detached(self, entry: Attachment) -> None:
        """Record that it is not, or no longer, attached."""
        self._append({"number": entry.number, "what": "detached"})
        self._open.pop(entry.number, None)

    def close(self) -> None:
        """Give up the lock; the file goes when nothing is left attached."""
        if self._file is None:
            return
        if not self._open:
            self._path.unlink(missing_ok=True)
        os.close(self._file)
        self._file = None

    def _append(self, entry: dict[str, object]) -> None:
        if self._file is None:
            self._file = self._create()
        os.write(self._file, json.dumps(entry).encode() + b"\n")
        os.fsync(self._file)

    def _create(self) -> int:
        """Make the file under a name that nobody looks for, lock it, and only then give it its name."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        unnamed = self._path.with_suffix(".new")
        file = os.open(unnamed, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        _lock(file)
        unnamed.rename(self._path)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return file

    def living(self) -> list[Attachment]:
        """What processes that live have attached, this one included."""
        found = list(self._open.values())
        for path in set(self._others()) - self._seen_to:
            with _opened(path) as (file, free):
                if file is not None and not free:
                    found.extend(_parse(path.read_bytes()).values())
        return found

    @contextmanager
    def orphans(self) -> Iterator[list["Orphan"]]:
        """The journals of processes that are gone, locked while the block runs so that nobody else sees to them."""
        with ExitStack() as held:
            found = []
            for path in self._others():
                file, free = held.enter_context(_opened(path))
                if file is not None and free:
                    held.callback(self._seen_to.discard, path)
                    self._seen_to.add(path)
                    found.append(Orphan(path, tuple(_parse(path.read_bytes()).values())))
            yield found

    def _others(self) -> list[Path]:
        return sorted(path for path in self._folder.glob(f"*{_SUFFIX}") if path != self._path)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int | None, bool]]:
    """The file and whether nobody has its lock (taken for the block then); None when it is gone."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None, False
        return
    try:
        yield file, _lock(file)
    finally:
        os.close(file)

"""Power loss: records what a store is told, and rebuilds what a disk may hold when power fails.

The model of a journaling POSIX file system: a file's bytes are sure once the file was synced after them, a name once
its folder was synced after it; a folder that the port makes is sure at once. Whatever is not sure may be lost, each on
its own. A rename happens or does not; once it is sure, so is that the file it moved was made.
"""

import itertools
from dataclasses import dataclass

from target_appliance.store.memory import MemoryStore
from tests.faults.store import FaultFile


@dataclass(frozen=True)
class Step:
    """One call that changes the store, or makes changes sure."""

    name: str
    path: str
    other: str = ""
    offset: int = 0
    data: bytes = b""


def folder_of(path):
    return path.rpartition("/")[0]


class RecordingFile(FaultFile):
    """A file being written whose changes are recorded."""

    def append(self, pieces):
        data = b"".join(pieces)
        self._trap.append(Step("write", self._path, offset=self._inner.position, data=data))
        self._inner.append([data])

    def overwrite(self, offset, data):
        self._trap.append(Step("write", self._path, offset=offset, data=bytes(data)))
        self._inner.overwrite(offset, data)

    def sync(self):
        self._trap.append(Step("sync", self._path))
        self._inner.sync()


class RecordingStore(MemoryStore):
    """A MemoryStore that keeps a journal of what it was told."""

    def __init__(self):
        super().__init__()
        self.steps = []

    def create(self, path):
        file = super().create(path)
        self.steps.append(Step("create", path))
        return RecordingFile(file, path, self.steps)

    def reopen(self, path, size):
        file = super().reopen(path, size)
        self.steps.append(Step("truncate", path, offset=size))
        return RecordingFile(file, path, self.steps)

    def make_folder(self, path):
        super().make_folder(path)
        self.steps.append(Step("make_folder", path))

    def rename(self, old, new):
        super().rename(old, new)
        self.steps.append(Step("rename", old, new))

    def sync_folder(self, path):
        super().sync_folder(path)
        self.steps.append(Step("sync_folder", path))

    def remove_tree(self, path):
        super().remove_tree(path)
        self.steps.append(Step("remove_tree", path))


def unsure(steps):
    """Numbers of the steps that a power loss behind ``steps`` may undo."""
    found = set()
    for number, step in enumerate(steps):
        if step.name == "sync":
            found -= {at for at in found if steps[at].name in ("write", "truncate") and steps[at].path == step.path}
        elif step.name == "sync_folder":
            sure = {at for at in found if step.path in _folders(steps[at])}
            moved = {steps[at].path for at in sure if steps[at].name == "rename"}
            found -= sure | {at for at in found if steps[at].name == "create" and steps[at].path in moved}
        elif step.name != "make_folder":
            found.add(number)
    return found


def _folders(step):
    """Folders whose sync makes the step sure."""
    if step.name in ("write", "truncate"):
        return set()
    return {folder_of(step.path)} if step.name != "rename" else {folder_of(step.other)}


def states(start, steps, most_lost):
    """Every store that may be found after a power loss: all prefixes of ``steps``, up to ``most_lost`` losses each.

    ``start`` makes the store as it was, durable, before the first step. Equal stores come once.
    """
    seen = set()
    for length in range(len(steps) + 1):
        prefix = steps[:length]
        losable = sorted(unsure(prefix))
        for count in range(most_lost + 1):
            for lost in itertools.combinations(losable, count):
                store = start()
                replay(store, prefix, set(lost))
                mark = _fingerprint(store)
                if mark not in seen:
                    seen.add(mark)
                    yield store


def _fingerprint(store):
    files = frozenset((path, bytes(content)) for path, content in store._files.items())
    return files, frozenset(store._folders)


def replay(store, steps, lost):
    """Do ``steps`` without those in ``lost``; what stood on a lost one is lost with it."""
    for number, step in enumerate(steps):
        if number in lost:
            continue
        path = tuple(step.path.split("/"))
        if step.name == "create" and path[:-1] in store._folders:
            store._files[path] = bytearray()
        elif step.name == "write" and path in store._files:
            content = store._files[path]
            content.extend(bytes(max(0, step.offset - len(content))))
            content[step.offset : step.offset + len(step.data)] = step.data
        elif step.name == "truncate" and path in store._files:
            del store._files[path][step.offset :]
        elif step.name == "make_folder":
            store.make_folder(step.path)
        elif step.name == "rename" and (path in store._files or path in store._folders):
            store.rename(step.path, step.other)
        elif step.name == "remove_tree":
            store.remove_tree(step.path)

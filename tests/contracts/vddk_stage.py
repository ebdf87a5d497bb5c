"""A VDDK reader over a world: the lab's library, told where the frozen disks lie."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.clock import Clock, SystemClock
from source_agent.disk_read.vddk.install import find_library
from source_agent.disk_read.vddk.reader import VddkReader, VddkSettings
from source_agent.vsphere.port import Snapshot
from tests.contracts.vsphere_worlds import MemoryWorld
from tests.lab.vddk_root import VddkRoot

USER, PASSWORD = "agent@vsphere.local", "not for logs"
THUMBPRINT = ":".join(f"{byte:02X}" for byte in hashlib.sha1(b"certificate").digest())


def reader_over(
    root: VddkRoot, state: Path, clock: Clock | None = None, mode: Any = "nbdssl", **changes: Any
) -> VddkReader:
    """A reader with the library in ``root``; ``changes`` to its settings, and silence_seconds."""
    options = {name: changes.pop(name) for name in ("silence_seconds",) if name in changes}
    library = find_library(root.folder)
    assert library is not None
    values: dict[str, Any] = {
        "library": library,
        "root": root.folder,
        "mode": mode,
        "server": "127.0.0.1",
        "port": 443,
        "data_port": 902,
        "user": USER,
        "password": lambda: PASSWORD,
        "thumbprint": lambda: THUMBPRINT,
        "identity": "keysapart agent-1",
        **changes,
    }
    return VddkReader(VddkSettings(**values), state, clock or SystemClock(), **options)


def root_for(folder: Path, release: str = "8.0") -> VddkRoot:
    """A library root whose snapshots a test publishes."""
    snapshots = folder / "snapshots"
    snapshots.mkdir(parents=True)
    password = folder / "password"
    password.write_text(PASSWORD + "\n")
    values = {"snapshots": snapshots, "thumbprint": THUMBPRINT, "user": USER, "password_file": password}
    return VddkRoot(folder / "vmware-vix-disklib-distrib", values, release)


def publish(folder: Path, snapshot: Snapshot, files: dict[int, Path]) -> None:
    """Tell the library what a snapshot holds: one plain file a disk."""
    lines = [f"vm\t{snapshot.vm}"]
    for disk in snapshot.disks:
        path = files[disk.key]
        lines.append(f"{disk.backing_path}\t{disk.capacity_bytes}\t{path.parent}\t{path.name}")
    (folder / "snapshots" / snapshot.moref).write_text("\n".join(lines) + "\n")


class PublishingVSphere:
    """Memory's vCenter, which tells the library of every snapshot."""

    def __init__(self, world: MemoryWorld, folder: Path) -> None:
        self._world, self._folder, self._inner = world, folder, world.vsphere

    def create_snapshot(self, *arguments: Any, **options: Any) -> Snapshot:
        made = self._inner.create_snapshot(*arguments, **options)
        publish(self._folder, made, {d.key: self._world.site.frozen_file(made.moref, d.key) for d in made.disks})
        return made

    def remove_snapshot(self, moref: str, snapshot: str) -> None:
        self._inner.remove_snapshot(moref, snapshot)
        (self._folder / "snapshots" / snapshot).unlink()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@contextmanager
def on_memory(world: MemoryWorld, folder: Path) -> Iterator[VddkReader]:
    """A reader over memory's vCenter."""
    root = root_for(folder)
    world.vsphere = PublishingVSphere(world, folder)  # type: ignore[assignment]
    reader = reader_over(root, folder / "state")
    yield reader
    reader.close()

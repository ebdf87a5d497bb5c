"""A virtual disk in memory's vCenter: a sparse file, a log of what the guest wrote, and frozen copies of it."""

import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from common.extent import Extent, normalise
from common.ids import DiskKey
from source_agent.disk_read.device import data_runs
from source_agent.vsphere.port import Backing, ChangedPage, DiskInfo

TRACKED_BYTES = 65536
"""Usual granularity of the change log: writes are widened to it, as ESXi does."""

_COPY_BYTES = 1 << 20


def sparse_copy(source: Path, destination: Path) -> None:
    """Copy a file, holes as holes."""
    with source.open("rb") as reader, destination.open("xb") as writer:
        size = reader.seek(0, os.SEEK_END)
        writer.truncate(size)
        for run in data_runs(reader.fileno(), Extent(0, size)):
            reader.seek(run.offset)
            writer.seek(run.offset)
            left = run.length
            while left:
                piece = reader.read(min(left, _COPY_BYTES))
                writer.write(piece)
                left -= len(piece)


def _tracking_run() -> str:
    """A change id's UUID part in vSphere's spelling: hex pairs, a hyphen in the middle."""
    pairs = [f"{byte:02x}" for byte in uuid.uuid4().bytes]
    return " ".join(pairs[:8]) + "-" + " ".join(pairs[8:])


@dataclass
class MemoryDisk:
    """One disk: ``file`` holds what the guest sees; not safe for threads, the site's lock guards it."""

    key: DiskKey
    file: Path
    base_path: str
    capacity_bytes: int
    label: str
    disk_uuid: str = field(default_factory=lambda: str(uuid.uuid4()))
    encrypted: bool = False
    independent: bool = False
    shared_bus: bool = False
    backing: Backing = Backing.FILE
    controller: str = "ParaVirtualSCSIController"
    adapter: str = "lsilogic"
    bus: int = 0
    unit: int = 0
    tracked_bytes: int = TRACKED_BYTES
    generation: int = 0
    """Snapshots taken since the path was the base one: the number in the delta file's name."""
    tracked: bool = False
    untracked: bool = False
    """Left out of change tracking, though it is on for the VM."""
    run: str = field(default_factory=_tracking_run)
    number: int = 1
    """Change number of the next snapshot; writes are logged under it."""
    log: list[tuple[int, Extent]] = field(default_factory=list)
    unseen_from: int | None = None
    """Writes from this offset on go unlogged until the next snapshot: the disk was grown while it ran."""
    delta_bytes: int = 0
    """Written since the newest snapshot."""

    def create(self) -> None:
        """Make the file, all holes."""
        with self.file.open("xb") as file:
            file.truncate(self.capacity_bytes)

    def write(self, offset: int, data: bytes, *, logged: bool = True) -> None:
        """A guest write; any alignment, inside the capacity. Hosts that leave changes out do not log it."""
        if not 0 <= offset <= offset + len(data) <= self.capacity_bytes:
            raise ValueError("a guest cannot write outside its disk")
        with self.file.open("r+b") as file:
            file.seek(offset)
            file.write(data)
        step = self.tracked_bytes
        begin = offset // step * step
        end = min(-(-(offset + len(data)) // step) * step, self.capacity_bytes)
        self.delta_bytes += len(data)
        seen = logged and (self.unseen_from is None or offset < self.unseen_from)
        if self.tracked and data and seen:
            self.log.append((self.number, Extent(begin, end - begin)))

    def grow(self, capacity_bytes: int) -> None:
        """A larger disk, the new part all holes, and change tracking blind there for a while (KB 2090639)."""
        self.unseen_from = self.capacity_bytes
        os.truncate(self.file, capacity_bytes)
        self.capacity_bytes = capacity_bytes

    def reset(self) -> None:
        """Tracking starts anew: other UUID, empty log, as after an unclean power-off."""
        self.run, self.number = _tracking_run(), 1
        self.log.clear()

    @property
    def path(self) -> str:
        """Datastore path of what the guest writes to now."""
        stem = self.base_path.removesuffix(".vmdk")
        return f"{stem}-{self.generation:06d}.vmdk" if self.generation else self.base_path

    def track(self, *, wanted: bool) -> None:
        """At a stun: tracking begins, with a run of its own, or ends."""
        on = wanted and not self.independent and not self.untracked
        if on and not self.tracked:
            self.reset()
        self.tracked = on

    @property
    def live_id(self) -> str | None:
        """What the running VM shows: the run that the next snapshot's change id will belong to."""
        return f"{self.run}/{self.number}" if self.tracked else None

    def bring_back(self, frozen: Path) -> None:
        """The guest sees what ``frozen`` holds, and goes on under the dropped delta's name; nothing is logged."""
        self.file.unlink()
        sparse_copy(frozen, self.file)

    def move(self) -> None:
        """The file goes elsewhere; what was logged since the last snapshot stays behind."""
        self.base_path = self.base_path.replace("[memory] ", "[memory] moved/")
        self.log = [entry for entry in self.log if entry[0] != self.number]

    def freeze(self, destination: Path) -> DiskInfo:
        """Copy the disk for a snapshot, go on under the next delta's name, and return what was frozen."""
        sparse_copy(self.file, destination)
        frozen = self.info(change_id=f"{self.run}/{self.number}" if self.tracked else None)
        self.number += 1
        self.delta_bytes = 0
        self.generation += 1
        self.unseen_from = None
        return frozen

    def thaw(self, snapshots_left: int) -> None:
        """A snapshot was consolidated away."""
        self.generation = snapshots_left

    def info(self, change_id: str | None) -> DiskInfo:
        """The disk in the port's words."""
        return DiskInfo(
            key=self.key,
            label=self.label,
            uuid=self.disk_uuid,
            capacity_bytes=self.capacity_bytes,
            backing=self.backing,
            backing_path=self.path,
            change_id=change_id,
            independent=self.independent,
            shared_bus=self.shared_bus,
            encrypted=self.encrypted,
            controller=self.controller,
            bus=self.bus,
            unit=self.unit,
            adapter=self.adapter,
        )

    def knows(self, change_id: str) -> bool:
        """The id was given out by the present tracking run."""
        run, _, number = change_id.rpartition("/")
        return self.tracked and run == self.run and number.isdecimal() and 0 < int(number) < self.number

    def page(self, since: str, until: str, offset: int, most_areas: int, capacity_bytes: int) -> ChangedPage:
        """Areas written between two ids of this run from ``offset`` on, at most ``most_areas`` of them."""
        first, last = (int(text.rpartition("/")[2]) for text in (since, until))
        changed = normalise(extent for number, extent in self.log if first < number <= last)
        inside = [
            Extent(max(area.offset, offset), area.end - max(area.offset, offset))
            for area in changed
            if area.end > offset
        ]
        shown = tuple(inside[:most_areas])
        end = shown[-1].end if len(inside) > most_areas else capacity_bytes
        return ChangedPage(offset, end - offset, shown)

"""One frozen disk with holes and a tail that is no whole chunk, behind the lab's library."""

import dataclasses
import os
from pathlib import Path

import pytest

from common.extent import Extent, split
from source_agent.vsphere.port import Snapshot
from tests.contracts.vddk_stage import publish, reader_over, root_for
from tests.fakes.clock import ManualClock
from tests.lab.vddk_root import VddkRoot
from tests.unit.source_agent.vms import disk, frozen

MIB = 1 << 20
CAPACITY = 9 * MIB + 3 * 512
HOLE = range(3 * MIB, 6 * MIB)


@dataclasses.dataclass
class Stage:
    folder: Path
    image: bytes
    taken: Snapshot
    clock: ManualClock

    @property
    def disk(self):
        return self.taken.disks[0]

    def root(self, release="8.0") -> VddkRoot:
        root = root_for(self.folder, release)
        publish(self.folder, self.taken, {self.disk.key: self.folder / "disk.raw"})
        return root

    def reader(self, root, **changes):
        return reader_over(root, self.folder / "state", self.clock, **changes)

    def read(self, reader, step=MIB, *, announced=True):
        """All bytes, in order."""
        found = bytearray()
        with reader.open(self.taken, self.disk) as opened:
            pieces = list(split([Extent(0, CAPACITY)], step))
            if announced:
                opened.expect(pieces)
            for piece in pieces:
                with opened.lend(piece) as lent:
                    found += lent
        return bytes(found)


@pytest.fixture
def stage(tmp_path):
    image = bytearray(os.urandom(CAPACITY))
    image[HOLE.start : HOLE.stop] = bytes(len(HOLE))
    folder = tmp_path / "site"
    folder.mkdir()
    with (folder / "disk.raw").open("wb") as file:
        file.write(image[: HOLE.start])
        file.seek(HOLE.stop)
        file.write(image[HOLE.stop :])
    taken = frozen(disk(capacity_bytes=CAPACITY), moref="snapshot-47")
    return Stage(folder, bytes(image), taken, ManualClock())

"""``python -m benchmarks.vddk``: our VDDK reader beside a loop that reads the same disk through the same library.

The plain loop loads the lab's library in a process of its own and calls Read, a MiB at a time, into one buffer. Ours is
what a sync does: pieces are announced, read by a worker process and lent in shared memory. Neither looks at the bytes.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from common import log
from common.extent import Extent, split
from source_agent.disk_read.vddk.disk import VddkDisk
from source_agent.disk_read.vddk.install import find_library
from source_agent.disk_read.vddk.protocol import SLOT_BYTES, SLOTS
from tests.contracts.vddk_stage import PASSWORD, THUMBPRINT, USER, publish, reader_over, root_for
from tests.lab.vddk_root import VddkRoot
from tests.unit.source_agent.vms import disk, frozen

MIB = 1 << 20
_FLOOR = 80.0
_BUFFERS_MIB = 64
_PATH = "[ds] bench/bench.vmdk"
_SNAPSHOT = "snapshot-1"

_PLAIN = """
import ctypes, sys, time
from source_agent.disk_read.vddk.library import Disk, Library
library, root, config, path, user, password, thumbprint, snapshot, mib = sys.argv[1:]
loaded = Library(library, root, config, lambda level, text: None)
opened = Disk(loaded, dict(vm="vm-1", server="vc", port=443, data_port=902, user=user, password=password,
                           thumbprint=thumbprint, snapshot=snapshot, mode="nbdssl", path=path))
buffer = ctypes.create_string_buffer(1 << 20)
address = ctypes.addressof(buffer)
began = time.monotonic()
for number in range(int(mib)):
    assert opened.read(number * 2048, 2048, address) == 0
print(time.monotonic() - began)
"""


def main(
    *,
    mib: Annotated[int, typer.Option(min=1, help="Size of the disk; all of it is data.")] = 1024,
    rounds: Annotated[int, typer.Option(min=1, help="Both take turns so often; each one's best time counts.")] = 15,
    mode: Annotated[
        str, typer.Option(help="nbdssl (asynchronous reads) or hotadd (reads that end in the call).")
    ] = "nbdssl",
    slow_us: Annotated[int, typer.Option(min=0, help="Microseconds that the library waits before each read.")] = 0,
) -> None:
    """Measure and print; exit code 1 when the promise was not kept."""
    log.configure(level="warning")
    with tempfile.TemporaryDirectory(prefix="keysapart-vddk-", dir="/dev/shm") as folder:
        top = Path(folder)
        root = root_for(top)
        root.set(slow_us=slow_us or "")
        _write(top / "disk.raw", mib)
        taken = frozen(disk(capacity_bytes=mib * MIB, backing_path=_PATH), moref=_SNAPSHOT)
        publish(top, taken, {2000: top / "disk.raw"})
        reader = reader_over(root, top / "state", mode=mode)
        times = []
        for _ in range(rounds):
            plain = _plain(root, top, mib)
            with reader.open(taken, taken.disks[0]) as opened:
                times.append((plain, _ours(opened, mib)))
    plain, ours = (min(column) for column in zip(*times, strict=True))
    share = 100 * plain / ours
    buffers = SLOTS * SLOT_BYTES // MIB
    print(f"plain loop through the library  {mib / plain:7.0f} MiB/s")
    print(f"our reader                      {mib / ours:7.0f} MiB/s")
    print(f"share: {share:.0f} %, at least {_FLOOR:.0f}; buffers: {buffers} MiB a disk, at most {_BUFFERS_MIB}")
    raise typer.Exit(0 if share >= _FLOOR and buffers <= _BUFFERS_MIB else 1)


def _write(path: Path, mib: int) -> None:
    with path.open("wb") as file, Path("/dev/urandom").open("rb") as source:
        for _ in range(mib):
            file.write(source.read(MIB))


def _plain(root: VddkRoot, top: Path, mib: int) -> float:
    library = find_library(root.folder)
    words = [library, root.folder, root.folder / "lab.conf", _PATH, USER, PASSWORD, THUMBPRINT, _SNAPSHOT, mib]
    command = [sys.executable, "-c", _PLAIN, *(str(word) for word in words)]
    done = subprocess.run(command, cwd=top, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _ours(opened: VddkDisk, mib: int) -> float:
    pieces = list(split([Extent(0, mib * MIB)], MIB))
    began = time.monotonic()
    opened.expect(pieces)
    for piece in pieces:
        with opened.lend(piece):
            pass
    return time.monotonic() - began


if __name__ == "__main__":
    typer.run(main)

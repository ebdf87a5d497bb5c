"""A point's disk onto a device: what it holds and nothing else, front to back, durable, and read back.

Zeros are left out: the disk is new and thin, and writing them would allocate them.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from blake3 import blake3

from common.errors import VCenterError
from common.grain import GRAIN_BYTES
from target_appliance.recovery.chain import DiskView
from target_appliance.recovery.export.grains import Counted, grains
from target_appliance.recovery.findings import Progress

RUN_BYTES: Final = 4 << 20
"""Most that is written at once."""
_SAMPLED: Final = 64
"""One run in so many is read back, the first included."""

Run = tuple[int, int, bytes]
"""Offset, length and digest of what was written there."""


def write_disk(view: DiskView, node: Path, progress: Progress, *, whole: bool, failpoint: Callable[[str], None]) -> int:
    """Write the disk to ``node``; returns the bytes written, all of them durable.

    Args:
        view: the disk at a point; stays the caller's.
        node: the device, as large as the disk; new, or written by this before.
        progress: bytes of the disk that were passed, holes included.
        whole: read back everything, not a sample.
        failpoint: called with ``write`` before each write.

    Raises:
        VCenterError: the device is not as it should be, fails, or does not give back what was written.
        DamagedError: what is stored is not what was committed.
    """
    counted, written, kept = Counted(view.capacity_bytes, progress), 0, list[Run]()
    descriptor = _open(node, view.capacity_bytes)
    try:
        for number, (offset, run) in enumerate(_runs(view, counted)):
            failpoint("write")
            _write(descriptor, node, offset, run)
            written += len(run)
            if whole or number % _SAMPLED == 0:
                kept.append((offset, len(run), blake3(run).digest()))
        with _told(node, "written"):
            os.fsync(descriptor)
        _read_back(descriptor, node, kept)
    finally:
        os.close(descriptor)
    counted.finished()
    return written


def _open(node: Path, capacity_bytes: int) -> int:
    with _told(node, "opened"):
        # On a block device, O_EXCL refuses one that somebody has mounted.
        block = os.O_EXCL if stat.S_ISBLK(node.stat().st_mode) else 0
        descriptor = os.open(node, os.O_RDWR | os.O_CLOEXEC | block)
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size != capacity_bytes:
        os.close(descriptor)
        raise _failed(node, f"has {size} bytes where the disk has {capacity_bytes}")
    return descriptor


def _runs(view: DiskView, counted: Counted) -> Iterator[tuple[int, bytearray]]:
    """Neighbouring grains together; the last one is cut at the disk's end."""
    start, run = 0, bytearray()
    for grain, data in grains(view, counted, lambda _, data: data):
        offset = grain * GRAIN_BYTES
        if run and (offset != start + len(run) or len(run) + GRAIN_BYTES > RUN_BYTES):
            yield start, run
            run = bytearray()
        if not run:
            start = offset
        run += data[: view.capacity_bytes - offset]
    if run:
        yield start, run


def _write(descriptor: int, node: Path, offset: int, run: bytearray) -> None:
    rest = memoryview(run)
    with _told(node, "written"):
        while rest:
            done = os.pwrite(descriptor, rest, offset)
            offset, rest = offset + done, rest[done:]


def _read_back(descriptor: int, node: Path, kept: list[Run]) -> None:
    """From the device, as far as the kernel lets go of what it has cached."""
    with _told(node, "read back"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        for offset, length, digest in kept:
            if blake3(os.pread(descriptor, length, offset)).digest() != digest:
                raise _failed(node, f"does not give back what was written at byte {offset}")


@contextmanager
def _told(node: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _failed(node, f"cannot be {done} ({error.strerror})") from error


def _failed(node: Path, what: str) -> VCenterError:
    return VCenterError(
        f"the attached disk {node.name} {what}",
        subject=f"device {node.name}",
        next_step="check the datastore's space and health and device_dir in the [vcenter] section, then run it again",
    )

"""A disk at a point, read from the target into a new raw file at this site."""

from collections.abc import Callable
from pathlib import Path

from common.errors import NotFoundError
from common.grain import GRAIN_BYTES
from common.ids import parse_disk_key, parse_point
from common.output_file import Output
from common.wire.v1 import replication_pb2 as wire
from source_agent.recover.archive import Archive, Wanted


def choose(archive: Archive, vm: str, disk: int, point: int | None) -> Wanted:
    """What ``vm``, ``disk`` and ``point`` (None for the newest) name.

    Raises:
        NotFoundError: there is no such VM, point or disk.
        PreconditionError: several VMs bear the name.
    """
    replica = archive.find(vm)
    points = archive.points(replica)
    found = points[-1] if point is None else next((one for one in points if one.number == point), None)
    if found is None:
        raise NotFoundError(
            f"{vm} has no point {point}: its points are {points[0].number} to {points[-1].number}",
            subject=f"vm {vm}",
            next_step="list them with source-agent points",
        )
    return Wanted(replica, parse_point(found.number), parse_disk_key(disk), _capacity(found, disk))


def fetch(archive: Archive, wanted: Wanted, path: Path, progress: Callable[[int], None]) -> int:
    """Write the disk to the new file ``path``, sparse and 0600; returns the bytes that are not zero.

    The file has its name only when it is whole and durable. It holds the guest's data in the clear.

    Args:
        archive: where it is read.
        wanted: what.
        path: where to; must not exist.
        progress: told the bytes of the disk passed since its last call.

    Raises:
        AlreadyExistsError: the file is there.
        StoreError, StoreFullError: it cannot be written.
        KeysapartError: the target's, or the link's.
    """
    written = at = 0
    with Output(path) as output:
        for grain, plain in archive.read(wanted):
            offset = grain * GRAIN_BYTES
            size = min(GRAIN_BYTES, wanted.capacity_bytes - offset)
            output.overwrite(offset, memoryview(plain)[:size])
            written += size
            progress(offset + size - at)
            at = offset + size
        output.end_at(wanted.capacity_bytes)
        output.publish()
    progress(wanted.capacity_bytes - at)
    return written


def _capacity(point: wire.Point, disk: int) -> int:
    for one in point.disks:
        if one.key == disk:
            return one.capacity_bytes
    keys = ", ".join(str(one.key) for one in point.disks)
    raise NotFoundError(
        f"point {point.number} has no disk {disk}: its disks are {keys}",
        subject=f"disk {disk}",
        next_step="give one of them with --disk",
    )

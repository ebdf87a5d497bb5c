"""A point's disks, shown to whoever connects, until the block ends."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from common.clock import Clock
from common.errors import NotFoundError
from common.ids import DiskKey
from target_appliance.present.callers import Shown
from target_appliance.present.clients import Bounds, Clients
from target_appliance.present.disk import LiveDisk
from target_appliance.present.handshake import Door
from target_appliance.present.listen import entering
from target_appliance.present.pieces import Pieces
from target_appliance.recovery.vault import Vault


@dataclass(frozen=True, slots=True)
class Live:
    """A view that is open."""

    disks: tuple[LiveDisk, ...]
    clients: Clients


def export_name(disk: DiskKey) -> str:
    """What clients call a disk."""
    return f"disk-{disk}"


def chosen_disks(vault: Vault, shown: Shown, disk: DiskKey | None) -> tuple[DiskKey, ...]:
    """The disks to show: the one that was named, or all of the point.

    Raises:
        NotFoundError: the point does not exist, or has no such disk.
        DamagedError: its record is not what was written.
    """
    record = vault.point(shown.tenant, shown.replica, shown.point)
    if disk is None:
        return tuple(one.spec.key for one in record.disks)
    if record.disk(disk) is None:
        raise NotFoundError(
            f"point {shown.point} has no disk {disk}",
            subject=f"disk {disk}",
            next_step="list the point's disks with target-appliance points",
        )
    return (disk,)


@contextmanager
def live(  # noqa: PLR0917  a composition root
    vault: Vault,
    shown: Shown,
    disks: Sequence[DiskKey],
    listener: socket.socket,
    door: Door,
    clock: Clock,
    bounds: Bounds | None = None,
) -> Iterator[Live]:
    """Serve ``disks`` of a point to those who connect to ``listener``, which stays the caller's.

    Raises:
        NotFoundError, DamagedError, KeyNotUsableError, KmsUnavailableError: see Vault.view.
    """
    with ExitStack() as life:
        views = [life.enter_context(vault.view(shown.tenant, shown.replica, disk, shown.point)) for disk in disks]
        pieces = life.enter_context(Pieces())
        shown_disks = tuple(
            LiveDisk(export_name(disk), view, pieces, number)
            for number, (disk, view) in enumerate(zip(disks, views, strict=True))
        )
        clients = life.enter_context(Clients({disk.name: disk for disk in shown_disks}, door, clock, bounds))
        life.enter_context(entering(listener, clients))
        yield Live(shown_disks, clients)

"""All changed extents of a disk, asked page by page, or an error: never a part of them.

vCenter answers with at most 2000 areas and says which part of the disk the answer covers. Several products read the
first page only and lost data. So the loop advances by what the answer covers, and every answer has to prove itself:
it starts where it was asked to, advances, lists areas in order and inside its window, and the last one ends exactly at
the disk's capacity. The capacity itself is never asked for: that is a fault on a real vCenter.
"""

from collections.abc import Callable

from common.errors import ChangeTrackingError
from common.extent import Extent, normalise
from source_agent.vsphere.port import ChangedPage, DiskInfo, Snapshot, VSphere

FEWEST_PAGES = 4096
BYTES_PER_PAGE = 16 << 20
"""With 2000 areas a page, a disk of 4 KiB tracking units that alternate still covers this much in each."""


def changed_extents(vsphere: VSphere, moref: str, snapshot: Snapshot, disk: DiskInfo, since: str) -> tuple[Extent, ...]:
    """Everything that changed on ``disk`` of ``snapshot`` since the change id ``since``; normal, in bytes.

    Raises:
        ChangeTrackingError: the answers cannot be trusted; a compare sync is the cure.
        KeysapartError: as VSphere.changed_page does.
    """

    def ask(offset: int) -> ChangedPage:
        return vsphere.changed_page(moref, snapshot.moref, disk.key, since, offset)

    return collect(ask, disk.capacity_bytes, f"disk {disk.key}")


def collect(ask: Callable[[int], ChangedPage], capacity_bytes: int, subject: str) -> tuple[Extent, ...]:
    """The loop over ``ask(offset)``; see ``changed_extents``."""
    most_pages = max(FEWEST_PAGES, capacity_bytes // BYTES_PER_PAGE)
    found: list[Extent] = []
    offset = pages = 0
    while offset < capacity_bytes:
        if pages == most_pages:
            raise _untrusted(subject, f"{pages} answers cover only {offset} of {capacity_bytes} bytes")
        page = ask(offset)
        pages += 1
        if (fault := _fault(page, offset, capacity_bytes)) is not None:
            raise _untrusted(subject, fault)
        found.extend(page.areas)
        offset += page.length
    return normalise(found)


def _fault(page: ChangedPage, offset: int, capacity_bytes: int) -> str | None:
    """What is wrong with an answer; None when nothing is."""
    if page.offset != offset:
        return f"the answer starts at byte {page.offset}, asked was {offset}"
    if page.length <= 0:
        return f"the answer at byte {offset} covers {page.length} bytes"
    end = offset + page.length
    if end > capacity_bytes:
        return f"the answer at byte {offset} covers bytes up to {end}, the disk has {capacity_bytes}"
    return _fault_of_areas(page.areas, offset, end)


def _fault_of_areas(areas: tuple[Extent, ...], begin: int, end: int) -> str | None:
    """What is wrong with the areas of an answer over the bytes ``begin`` to ``end``."""
    last = begin
    for area in areas:
        if area.length <= 0:
            return f"the area at byte {area.offset} is empty"
        if area.offset < last:
            return f"the area at byte {area.offset} is out of order or before the answer's window"
        if area.end > end:
            return f"the area at byte {area.offset} ends at {area.end}, past the answer's window"
        last = area.end
    return None


def _untrusted(subject: str, what: str) -> ChangeTrackingError:
    return ChangeTrackingError(
        f"the list of changed blocks of {subject} cannot be trusted: {what}",
        subject=subject,
        next_step="run the sync as compare",
    )

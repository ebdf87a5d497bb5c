"""One disk from extents to records: read and reduce on a few threads, in order, a bounded number of pieces ahead.

Memory is bounded by pieces under way (READ_AHEAD of PIECE_BYTES each) plus the stream's window. The first failure,
wherever it happens, surfaces at the consumer's next pull.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

from common.errors import InterruptedSyncError
from common.extent import Extent, round_to_grains, split
from common.grain import GRAIN_BYTES, GrainKind
from common.reduce import Reduced, reduce_grains
from common.sync.events import GrainRecord
from source_agent.disk_read.port import MOST_BYTES, OpenDisk
from source_agent.reduce.guest_encryption import schemes
from source_agent.reduce.held import HeldDigests

PIECE_BYTES = MOST_BYTES
"""One read."""

READ_AHEAD = 8
"""Pieces under way at once per disk."""


@dataclass
class DiskCount:
    """What happened to one disk's bytes; grows while the disk is read, again after a cut included."""

    bytes_read: int = 0
    bytes_again: int = 0
    """Of these, bytes that had to be read again: progress is without them."""
    grains_zero: int = 0
    grains_unchanged: int = 0
    grains_data: int = 0
    """Grains sent with data."""
    grains_raw: int = 0
    """Of these, those that did not shrink."""
    schemes: frozenset[str] = frozenset()
    """Of encryption inside the guest whose headers were read."""
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def add(self, read: int, reduced: Reduced, found: frozenset[str]) -> None:
        """Count one piece."""
        kinds = [record.kind for record in reduced.records]
        with self.lock:
            self.bytes_read += read
            self.grains_zero += reduced.zero
            self.grains_unchanged += reduced.unchanged
            self.grains_data += len(kinds) - kinds.count(GrainKind.ZERO)
            self.grains_raw += kinds.count(GrainKind.RAW)
            self.schemes |= found


def pieces(disk: OpenDisk, extents: Iterable[Extent], capacity_bytes: int, *, skip_holes: bool) -> list[Extent]:
    """What is to be read of ``extents``: whole grains, cut to PIECE_BYTES.

    Args:
        disk: asked which parts can hold data, when ``skip_holes``.
        extents: normal, inside the capacity.
        capacity_bytes: of the disk; the last grain ends there.
        skip_holes: leave out what the disk knows to be zeros; right only where the target's side is zeros too.
    """
    wanted = round_to_grains(extents, capacity_bytes)
    if skip_holes:
        wanted = round_to_grains((part for extent in wanted for part in disk.allocated(extent)), capacity_bytes)
    return list(split(wanted, PIECE_BYTES))


def records(
    disk: OpenDisk,
    wanted: Sequence[Extent],
    held: HeldDigests | None,
    *,
    workers: Executor,
    count: DiskCount,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[Sequence[GrainRecord]]:
    """Records of the pieces ``wanted``, in their order.

    Args:
        disk: whose pieces are read and reduced, each by one worker.
        wanted: from ``pieces``.
        held: what the target holds, for leaving out what did not change; None in a full.
        workers: where reading and reducing run.
        count: grows with every piece.
        stopped: asked before each piece.

    Raises:
        InterruptedSyncError: ``stopped`` said so. Never a quiet end: the target would take the disk for complete.
        KeysapartError: the reader's, or what fetching digests raised.
    """

    def work(piece: Extent, known: Mapping[int, bytes] | None) -> Reduced:
        with disk.lend(piece) as lent:
            grains = _whole_grains(lent)
            reduced = reduce_grains(grains, piece.offset // GRAIN_BYTES, known)
            count.add(piece.length, reduced, schemes(grains))
        return reduced

    under_way: deque[Future[Reduced]] = deque()
    disk.expect(wanted)
    try:
        for piece in wanted:
            if stopped():
                raise InterruptedSyncError("reading was ended", subject="sync", next_step="sync again")
            under_way.append(workers.submit(work, piece, held.of(piece) if held else None))
            if len(under_way) >= READ_AHEAD:
                yield under_way.popleft().result().records
        while under_way:
            yield under_way.popleft().result().records
    finally:
        for future in under_way:
            future.cancel()


def _whole_grains(lent: memoryview) -> memoryview:
    """The same bytes; copied, and padded with zeros, only at the end of a disk that ends inside a grain."""
    missing = -len(lent) % GRAIN_BYTES
    return memoryview(bytes(lent) + bytes(missing)) if missing else lent

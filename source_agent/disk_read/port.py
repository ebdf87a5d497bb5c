"""What a block reader promises.

A reader is opened for one snapshot and hands out one open disk at a time per ``open`` call. Offsets and lengths are
bytes, multiples of 512, inside the capacity. An open disk may be read by several threads, each of which holds one piece
at a time. All drivers pass ``tests/contracts/test_block_reader_contract.py``.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Final, Protocol, Self

from common.extent import Extent
from source_agent.vsphere.port import DiskInfo, Snapshot

MOST_BYTES: Final = 1 << 20
"""The largest piece that is lent: per-call cost has vanished by then, and buffers stay small."""


class OpenDisk(Protocol):
    """A snapshot's disk, ready to be read."""

    def lend(self, piece: Extent) -> AbstractContextManager[memoryview]:
        """The bytes of ``piece`` (at most MOST_BYTES), wherever the driver has them: valid while the block runs.

        Raises:
            SourceError: the disk cannot be read there, or was released; nothing is made up for the missing bytes.
        """
        ...

    def allocated(self, wanted: Extent) -> Iterable[Extent]:
        """The parts of ``wanted`` that may hold non-zero bytes, sorted and disjoint; all of it when unknown."""
        ...

    def expect(self, pieces: Iterable[Extent]) -> None:
        """Announce what will be lent next, in this order, so that it may be fetched ahead; others stay right."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the disk: detached and closed on every path."""
        ...


class BlockReader(Protocol):
    """A way to read the disks of snapshots."""

    def open(self, snapshot: Snapshot, disk: DiskInfo) -> OpenDisk:
        """Make ``disk`` of ``snapshot`` readable.

        Raises:
            SourceError, SourceUnavailableError: it cannot be; whatever was attached is detached again.
        """
        ...

    def held(self, vm: str) -> AbstractContextManager[None]:
        """Keep the VM with the moref ``vm`` on its host and datastores while the block runs, as far as the driver can.

        Begun before the VM's snapshot is taken, ended after that is removed.
        """
        ...

    def release_leftovers(self) -> int:
        """Detach whatever an earlier process of this agent left attached; returns how many disks.

        VMs that it held are let go, too. Leaves alone what a living process of the same agent has attached or holds.
        """
        ...

    def close(self) -> None:
        """End the reader after its disks were released; never raises."""
        ...

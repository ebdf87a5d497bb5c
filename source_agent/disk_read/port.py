"""What a block reader promises.

A reader is opened for one snapshot and hands out one open disk at a time per ``open`` call. Offsets and lengths are
bytes, multiples of 512, inside the capacity. An open disk is used by one thread at a time; different disks may be read
in parallel. All drivers pass ``tests/contracts/test_block_reader_contract.py``.
"""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from common.extent import Extent
from source_agent.vsphere.port import DiskInfo, Snapshot


class OpenDisk(Protocol):
    """A snapshot's disk, ready to be read."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill ``buffer`` (the caller's) with the bytes from ``offset`` on, all of it.

        Raises:
            SourceError: the disk cannot be read there; nothing is made up for the missing bytes.
        """
        ...

    def allocated(self, wanted: Extent) -> Iterable[Extent]:
        """The parts of ``wanted`` that may hold non-zero bytes, sorted and disjoint; all of it when unknown."""
        ...

    def expect(self, pieces: Iterable[Extent]) -> None:
        """Announce what will be read next, in this order, so that it may be fetched ahead; other reads stay right."""
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

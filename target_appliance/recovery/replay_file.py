"""A staged file that is written a second time: what is appended must be what is there, until it goes on for real."""

from collections.abc import Sequence
from typing import Final

from common.closing import Closing
from common.errors import NotFoundError
from target_appliance.recovery.resting_file import RestingFile
from target_appliance.store.port import ReadFile, Store
from target_appliance.vmdk.layout import GRAIN_MARKER, GRAIN_SECTORS, SECTOR_BYTES, grain_record_bytes

_HEAD: Final = SECTOR_BYTES
"""Bytes at the beginning that are rewritten when a file is complete, so that they may be of either kind."""


class ReplayError(Exception):
    """What is staged is not what was written."""


class ReplayFile(Closing):
    """See WriteFile. ``go_live`` cuts off what lies behind the position and writes from there on."""

    def __init__(self, store: Store, path: str) -> None:
        self._store = store
        self._path = path
        self._head = bytearray()
        self._replayed = 0
        self._live: RestingFile | None = None
        try:
            self._reader: ReadFile = store.open(path)
        except NotFoundError:
            raise ReplayError("a file is missing") from None

    @property
    def position(self) -> int:
        """See WriteFile."""
        return self._replayed if self._live is None else self._live.position

    def read_at(self, offset: int, length: int) -> bytes:
        """What is there."""
        return self._reader.read_at(offset, length)

    def grain(self, position: int, within: int, size: int) -> tuple[bytes, memoryview]:
        """The record of ``size`` bytes at ``position``, and its payload.

        Raises:
            ReplayError: it is not that of grain ``within`` of the extent.
        """
        record = self.read_at(position, size)
        if len(record) != size or size < GRAIN_MARKER.size:
            raise ReplayError("a file is too short")
        sector, length = GRAIN_MARKER.unpack_from(record)
        if sector != within * GRAIN_SECTORS or grain_record_bytes(length) != size:
            raise ReplayError("a record is another grain's")
        end = GRAIN_MARKER.size + length
        if any(record[end:]):
            raise ReplayError("a record's padding is not empty")
        return record, memoryview(record)[GRAIN_MARKER.size : end]

    def append(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """See WriteFile. Raises ReplayError."""
        if self._live is not None:
            self._live.append(pieces)
            return
        for piece in pieces:
            view = memoryview(piece)
            there = self._reader.read_at(self._replayed, len(view))
            skipped = max(0, min(len(view), _HEAD - self._replayed))
            self._head += view[:skipped]
            if len(there) != len(view) or there[skipped:] != view[skipped:]:
                raise ReplayError("a file holds something else")
            self._replayed += len(view)

    def overwrite(self, offset: int, data: bytes) -> None:
        """See WriteFile; while it is replayed, only at the beginning."""
        if self._live is not None:
            self._live.overwrite(offset, data)
            return
        if offset + len(data) > len(self._head):
            raise ReplayError("more than a header is overwritten")
        self._head[offset : offset + len(data)] = data

    def sync(self) -> None:
        """See WriteFile."""
        if self._live is None and self._reader.read_at(0, len(self._head)) != self._head:
            self.go_live()
        if self._live is not None:
            self._live.sync()

    def rest(self) -> None:
        """See RestingFile."""
        if self._live is not None:
            self._live.rest()

    def go_live(self) -> None:
        """From now on what is appended is written."""
        if self._live is None:
            self._live = RestingFile(self._store, self._path, self._replayed)
            self._live.overwrite(0, bytes(self._head))
            self._reader.close()

    def close(self) -> None:
        """See WriteFile."""
        self._reader.close()
        if self._live is not None:
            self._live.close()

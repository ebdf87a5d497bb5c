"""Reads a sealed manifest: whole, or by range with bisection over its chunks."""

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

import numpy as np
from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from common.ids import PointNumber, SyncId
from target_appliance.seal.grain import NONCE_BYTES
from target_appliance.seal.keys import DataKey
from target_appliance.seal.manifest import HEADER, RECORD, SEAL_BYTES, STRIDE_BYTES, associated_data, header
from target_appliance.store.port import ReadFile

RECORD_TYPE: Final = np.dtype([("grain", "<u4"), ("digest", "u1", (16,))])
Records = NDArray[np.void]
_KEPT_CHUNKS: Final = 4


class ManifestError(Exception):
    """A manifest does not open. ``offset`` and ``length`` name the bytes that do not fit, ``reader`` whose they are."""

    def __init__(self, message: str, offset: int, length: int, reader: object = None) -> None:
        super().__init__(message)
        self.offset = offset
        self.length = length
        self.reader = reader


class ManifestReader:
    """The records of one disk at one point. Not thread-safe; ``file`` stays the caller's to close.

    Raises:
        ManifestError: header or length are not those of this manifest.
    """

    def __init__(self, file: ReadFile, key: DataKey, point: PointNumber, sync: SyncId) -> None:
        self._file = file
        self._cipher = AESGCM(key.manifest_key(point))
        self._binding = key.binding(point)
        self._sync = sync
        self._root_key = key.root_key(point)
        self._kept: OrderedDict[int, Records] = OrderedDict()
        self._firsts: dict[int, int] = {}
        if file.read_at(0, HEADER.size) != header(self._binding, sync):
            raise ManifestError("its header does not fit", 0, HEADER.size)
        body = file.size - HEADER.size
        self.chunks = -(-body // STRIDE_BYTES)
        last = body - (self.chunks - 1) * STRIDE_BYTES
        if body < SEAL_BYTES or (last - SEAL_BYTES) % RECORD.size or last < SEAL_BYTES:
            raise ManifestError("its length cannot be", HEADER.size, body)
        self.records = (body - self.chunks * SEAL_BYTES) // RECORD.size

    def chunk(self, number: int) -> Records:
        """Chunk ``number`` in the clear; the array is read-only.

        Raises:
            ManifestError: it was altered, moved or cut.
        """
        kept = self._kept.get(number)
        if kept is not None:
            self._kept.move_to_end(number)
            return kept
        offset = HEADER.size + number * STRIDE_BYTES
        sealed = self._file.read_at(offset, STRIDE_BYTES)
        try:
            plain = self._cipher.decrypt(
                sealed[:NONCE_BYTES],
                sealed[NONCE_BYTES:],
                associated_data(self._binding, self._sync, number, last=number == self.chunks - 1),
            )
        except (InvalidTag, ValueError):
            raise ManifestError(f"chunk {number} does not open", offset, len(sealed), self) from None
        records: Records = np.frombuffer(plain, RECORD_TYPE)
        grains = records["grain"]
        if np.any(grains[1:] <= grains[:-1]):
            raise ManifestError(f"chunk {number} does not rise", offset, len(sealed), self)
        self._kept[number] = records
        if len(self._kept) > _KEPT_CHUNKS:
            self._kept.popitem(last=False)
        if len(records):
            self._firsts[number] = int(grains[0])
        return records

    def all(self) -> Iterator[Records]:
        """Every chunk in order; checks that grains rise from chunk to chunk."""
        before = -1
        for number in range(self.chunks):
            records = self.chunk(number)
            if len(records):
                if records["grain"][0] <= before:
                    raise ManifestError(
                        f"chunk {number} does not rise", HEADER.size + number * STRIDE_BYTES, STRIDE_BYTES, self
                    )
                before = int(records["grain"][-1])
            yield records

    def root(self) -> bytes:
        """The root over all records, read anew."""
        state = blake3(key=self._root_key)
        for records in self.all():
            state.update(records.tobytes())
        return state.digest()

    def between(self, first: int, stop: int) -> Records:
        """Records of the grains from ``first`` up to, not including, ``stop``."""
        number = self._chunk_of(first)
        parts = []
        while number < self.chunks:
            records = self.chunk(number)
            low, high = np.searchsorted(records["grain"], [first, stop])
            parts.append(records[low:high])
            if high < len(records):
                break
            number += 1
        return np.concatenate(parts) if len(parts) != 1 else parts[0]

    def next_grain(self, first: int) -> int | None:
        """The lowest grain in the manifest that is not below ``first``."""
        number = self._chunk_of(first)
        while number < self.chunks:
            grains = self.chunk(number)["grain"]
            place = int(np.searchsorted(grains, first))
            if place < len(grains):
                return int(grains[place])
            number += 1
        return None

    def _chunk_of(self, grain: int) -> int:
        """The last chunk that begins at or below ``grain``; 0 when none does."""
        low, high = 0, self.chunks
        while high - low > 1:
            middle = (low + high) // 2
            if self._first(middle) <= grain:
                low = middle
            else:
                high = middle
        return low

    def _first(self, number: int) -> int:
        first = self._firsts.get(number)
        return int(self.chunk(number)["grain"][0]) if first is None else first

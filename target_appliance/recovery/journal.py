"""What of a staged disk is durable, so that a sync goes on after the appliance was killed. Never part of a point.

One sealed frame for every durable step, appended and synced after the data: which grains, how long each one's record
is, its digest; and a last one when the disk is complete. A tail that is torn or does not open ends the journal there.
What a frame is bound to (disk, point, sync, what the sync said of itself, its number) lets none stand elsewhere.
"""

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.grain import DIGEST_BYTES
from common.ids import PointNumber, SyncId
from target_appliance.seal.grain import NONCE_BYTES, TAG_BYTES
from target_appliance.seal.keys import DataKey, Entropy
from target_appliance.store.port import ReadFile, WriteFile

ENTRY: Final = struct.Struct(f"<II{DIGEST_BYTES}s")
"""Grain, bytes of its record in the extent (0: zeros), digest."""
MOST_ENTRIES: Final = 1 << 15
"""In one frame; a writer makes a step before it holds more."""

_FRAME: Final = struct.Struct(f"<I{NONCE_BYTES}s")
_FINISHED: Final = struct.Struct("<Q32sQ")
_STEP_KIND: Final = b"s"
_FINISHED_KIND: Final = b"f"
_MOST_SEALED: Final = 4 * MOST_ENTRIES * ENTRY.size


@dataclass(frozen=True, slots=True)
class Finished:
    """A disk that is complete: entries and root of its manifest, bytes of its files."""

    grains: int
    root: bytes
    stored_bytes: int


class Seal:
    """Seals and opens the frames of one disk of one sync.

    Args:
        key: the disk's DEK.
        point: number that the point will have.
        sync: the sync.
        about: digest of what the sync said of itself.
        entropy: for nonces.
    """

    def __init__(self, key: DataKey, point: PointNumber, sync: SyncId, about: bytes, entropy: Entropy) -> None:
        self._cipher = AESGCM(key.journal_key(point))
        self._bound = key.binding(point) + uuid.UUID(sync).bytes + about
        self._entropy = entropy

    def seal(self, number: int, plain: bytes) -> list[bytes]:
        """Frame ``number`` of the journal, as pieces."""
        nonce = self._entropy(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, plain, self._associated(number))
        return [_FRAME.pack(len(sealed), nonce), sealed]

    def unseal(self, number: int, nonce: bytes, sealed: bytes) -> bytes | None:
        """What frame ``number`` holds; None when it does not open."""
        try:
            return self._cipher.decrypt(nonce, sealed, self._associated(number))
        except InvalidTag:
            return None

    def _associated(self, number: int) -> bytes:
        return self._bound + number.to_bytes(8, "little")


class JournalWriter:
    """Appends frames to ``file``, which stays the caller's to close; ``number`` of them are there already."""

    def __init__(self, file: WriteFile, seal: Seal, number: int = 0) -> None:
        self._file = file
        self._seal = seal
        self._number = number

    def step(self, entries: bytes) -> None:
        """These grains are durable, each with ENTRY; durable itself when this returns."""
        self._append(_STEP_KIND + entries)

    def finished(self, done: Finished) -> None:
        """The disk is complete and durable."""
        self._append(_FINISHED_KIND + _FINISHED.pack(done.grains, done.root, done.stored_bytes))

    def _append(self, plain: bytes) -> None:
        self._file.append(self._seal.seal(self._number, plain))
        self._file.sync()
        self._number += 1


def read(file: ReadFile, seal: Seal) -> Iterator[tuple[bytes | Finished, int]]:
    """Entries of each step, or that the disk is complete; and where the frame ends. Stops at a torn tail."""
    at = number = 0
    while True:
        head = file.read_at(at, _FRAME.size)
        if len(head) < _FRAME.size:
            return
        size, nonce = _FRAME.unpack(head)
        if not TAG_BYTES < size <= _MOST_SEALED:
            return
        sealed = file.read_at(at + _FRAME.size, size)
        plain = seal.unseal(number, nonce, sealed) if len(sealed) == size else None
        if plain is None:
            return
        at += _FRAME.size + size
        number += 1
        yield (plain[1:] if plain[:1] == _STEP_KIND else Finished(*_FINISHED.unpack(plain[1:]))), at

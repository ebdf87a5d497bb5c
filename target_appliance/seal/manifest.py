"""The sealed manifest: grain index and digest of every grain that a point holds of a disk, rising.

A header in the clear, then chunks of CHUNK_RECORDS records each (the last one shorter, or full, or empty when there is
nothing), every chunk sealed on its own. Associated data counts the chunks and marks the last, so that a cut at the end
of a chunk shows as well. Equal chunk sizes let a reader find a grain by bisection. To the byte: docs/format.md.
"""

import os
import struct
import uuid
from typing import Final

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.grain import DIGEST_BYTES
from common.ids import PointNumber, SyncId
from target_appliance.seal.grain import NONCE_BYTES, TAG_BYTES
from target_appliance.seal.keys import FORMAT_VERSION, DataKey, Entropy
from target_appliance.store.port import WriteFile

CHUNK_RECORDS: Final = 4096
RECORD: Final = struct.Struct(f"<I{DIGEST_BYTES}s")
CHUNK_BYTES: Final = CHUNK_RECORDS * RECORD.size
SEAL_BYTES: Final = NONCE_BYTES + TAG_BYTES
STRIDE_BYTES: Final = CHUNK_BYTES + SEAL_BYTES
HEADER: Final = struct.Struct("<8sII24s16s8x")
"""Magic, format version, records per chunk, binding (replica, disk, point), sync, zeros."""
MAGIC: Final = b"KSAMANI\n"
_POSITION: Final = struct.Struct("<IB")


def header(binding: bytes, sync: SyncId) -> bytes:
    """The 64 bytes that begin the manifest which ``sync`` wrote."""
    return HEADER.pack(MAGIC, FORMAT_VERSION, CHUNK_RECORDS, binding, uuid.UUID(sync).bytes)


def associated_data(binding: bytes, sync: SyncId, number: int, *, last: bool) -> bytes:
    """What chunk ``number``, counted from 0, is bound to.

    The sync is in it because a point's number, and with it the key, may have been used by a sync that was given up.
    """
    return binding + uuid.UUID(sync).bytes + _POSITION.pack(number, last)


class ManifestWriter:
    """A manifest being written. Not thread-safe; ``file`` stays the caller's to sync and close.

    Records must be added in rising order of grains: the caller has checked that.
    """

    def __init__(
        self, file: WriteFile, key: DataKey, point: PointNumber, sync: SyncId, entropy: Entropy = os.urandom
    ) -> None:
        self._file = file
        self._entropy = entropy
        self._cipher = AESGCM(key.manifest_key(point))
        self._binding = key.binding(point)
        self._sync = sync
        self._root = blake3(key=key.root_key(point))
        self._chunks = 0
        self._waiting = bytearray()
        self.records = 0
        file.append([header(self._binding, sync)])

    def add(self, records: bytes) -> None:
        """Append whole records."""
        self._root.update(records)
        self.records += len(records) // RECORD.size
        self._waiting += records
        # The last chunk is known as such only at the end: one full chunk always waits.
        while len(self._waiting) > CHUNK_BYTES:
            self._seal(bytes(self._waiting[:CHUNK_BYTES]), last=False)
            del self._waiting[:CHUNK_BYTES]

    def finish(self) -> bytes:
        """Write the last chunk; returns the manifest's root."""
        self._seal(bytes(self._waiting), last=True)
        self._waiting.clear()
        return self._root.digest()

    def _seal(self, plain: bytes, *, last: bool) -> None:
        nonce = self._entropy(NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, plain, associated_data(self._binding, self._sync, self._chunks, last=last))
        self._file.append([nonce, sealed])
        self._chunks += 1

"""One grain sealed: ``key point · nonce · ciphertext · tag``, its plaintext a codec byte and the data as it came.

Associated data binds replica, disk, grain index and key point, so that a sealed grain opens at its own place only.
"""

import struct
from typing import Final

import lz4.block
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.grain import GRAIN_BYTES, GrainKind
from common.ids import PointNumber
from target_appliance.seal.keys import DataKey

NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
_KEY_POINT: Final = struct.Struct("<I")
_PREFIX_BYTES: Final = _KEY_POINT.size + NONCE_BYTES
OVERHEAD_BYTES: Final = _PREFIX_BYTES + 1 + TAG_BYTES
"""Bytes of payload beyond the data."""
PAYLOAD_MOST_BYTES: Final = GRAIN_BYTES + OVERHEAD_BYTES
_INDEX: Final = struct.Struct("<I")
_CODECS: Final = {GrainKind.RAW: 1, GrainKind.LZ4: 2}
"""Codec bytes are the wire's kinds; a zero grain has no payload."""


class UnsealError(Exception):
    """A sealed grain does not open; the text says what is wrong with it, never what it holds."""


class GrainSealer:
    """Seals grains of one disk for one point. Not thread-safe: it keeps a buffer."""

    def __init__(self, key: DataKey, point: PointNumber) -> None:
        self._cipher = AESGCM(key.grain_key(point))
        self._prefix = _KEY_POINT.pack(point)
        self._binding = key.binding(point)
        self._plain = memoryview(bytearray(1 + GRAIN_BYTES))

    def seal_into(self, out: memoryview, grain: int, kind: GrainKind, data: bytes | memoryview, nonce: bytes) -> None:
        """Fill ``out``, which must be OVERHEAD_BYTES longer than ``data``.

        Args:
            out: receives the payload.
            grain: index on the disk.
            kind: RAW or LZ4.
            data: as it came over the wire.
            nonce: 12 fresh random bytes.
        """
        size = len(data)
        plain = self._plain
        plain[0] = _CODECS[kind]
        plain[1 : size + 1] = data
        out[: _KEY_POINT.size] = self._prefix
        out[_KEY_POINT.size : _PREFIX_BYTES] = nonce
        self._cipher.encrypt_into(
            nonce, plain[: size + 1], self._binding + _INDEX.pack(grain), out[_PREFIX_BYTES : size + OVERHEAD_BYTES]
        )


class GrainOpener:
    """Opens grains of one disk, whatever points sealed them. Thread-safe: its cache only grows."""

    def __init__(self, key: DataKey) -> None:
        self._key = key
        self._ciphers: dict[int, tuple[AESGCM, bytes]] = {}

    def unseal(self, payload: bytes | memoryview, grain: int, newest: PointNumber) -> bytes:
        """The 64 KiB in ``payload``.

        Args:
            payload: a grain record's payload.
            grain: index on the disk at which it stands.
            newest: point whose file holds it; a key point after it cannot be.

        Raises:
            UnsealError: it was altered, moved, or is not one of ours.
        """
        if not OVERHEAD_BYTES < len(payload) <= PAYLOAD_MOST_BYTES:
            raise UnsealError(f"its length {len(payload)} cannot be")
        (point,) = _KEY_POINT.unpack_from(payload)
        if not 1 <= point <= newest:
            raise UnsealError(f"its key point {point} cannot be")
        cipher, binding = self._cipher(PointNumber(point))
        view = memoryview(payload)
        try:
            plain = cipher.decrypt(
                view[_KEY_POINT.size : _PREFIX_BYTES], view[_PREFIX_BYTES:], binding + _INDEX.pack(grain)
            )
        except InvalidTag:
            raise UnsealError("its tag does not fit") from None
        return _decode(plain)

    def _cipher(self, point: PointNumber) -> tuple[AESGCM, bytes]:
        found = self._ciphers.get(point)
        if found is None:
            found = self._ciphers[point] = (AESGCM(self._key.grain_key(point)), self._key.binding(point))
        return found


def _decode(plain: bytes) -> bytes:
    codec, data = plain[0], memoryview(plain)[1:]
    if codec == _CODECS[GrainKind.RAW]:
        grain = bytes(data)
    elif codec == _CODECS[GrainKind.LZ4]:
        try:
            grain = lz4.block.decompress(data, uncompressed_size=GRAIN_BYTES)
        except lz4.block.LZ4BlockError:
            raise UnsealError("its LZ4 data does not decode") from None
    else:
        raise UnsealError(f"its codec {codec} is unknown")
    if len(grain) != GRAIN_BYTES:
        raise UnsealError(f"it decodes to {len(grain)} bytes")
    return grain

"""A VM's configuration, sealed: a header in the clear, which is the associated data, then canonical JSON sealed whole.

To the byte: docs/format.md.
"""

import json
import struct
import uuid
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.ids import PointNumber, SyncId
from common.vm_configuration import VmConfiguration, parse
from target_appliance.seal.grain import NONCE_BYTES
from target_appliance.seal.keys import FORMAT_VERSION, DataKey, Entropy
from target_appliance.seal.selfcheck import canonical

MAGIC: Final = b"KSAVMCF\n"
HEADER: Final = struct.Struct("<8sI24s16s")
"""Magic, format version, binding (replica, disk, point), sync."""
VM_MOST_BYTES: Final = 1 << 20
"""Above the largest file there can be: 256 devices of each kind, with all their texts."""


class ConfigurationError(Exception):
    """The file is not what this sync sealed for this point."""


def seal(told: VmConfiguration, key: DataKey, point: PointNumber, sync: SyncId, entropy: Entropy) -> bytes:
    """The file that holds ``told``."""
    head = _header(key, point, sync)
    nonce = entropy(NONCE_BYTES)
    return head + nonce + AESGCM(key.vm_key(point)).encrypt(nonce, canonical(told.as_members()), head)


def unseal(content: bytes, key: DataKey, point: PointNumber, sync: SyncId) -> VmConfiguration:
    """What ``seal`` was given.

    Raises:
        ConfigurationError: it is another point's, another sync's, altered, or of a newer release.
    """
    head, rest = content[: HEADER.size], content[HEADER.size :]
    if head != _header(key, point, sync):
        raise ConfigurationError("its header is another one's")
    try:
        plain = AESGCM(key.vm_key(point)).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], head)
        return parse(json.loads(plain))
    except (InvalidTag, ValueError) as error:
        raise ConfigurationError(f"it does not open: {error or 'it was altered'}") from None


def _header(key: DataKey, point: PointNumber, sync: SyncId) -> bytes:
    return HEADER.pack(MAGIC, FORMAT_VERSION, key.binding(point), uuid.UUID(sync).bytes)

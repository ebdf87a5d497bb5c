"""Keys of a disk: one DEK, and what is derived from it. Contexts to the byte: docs/format.md, Key derivation."""

import struct
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.ids import DiskKey, PointNumber, ReplicaId, TenantId
from target_appliance.seal.secret import Held

DEK_BYTES: Final = 32
FORMAT_VERSION: Final = 1
_BINDING: Final = struct.Struct("<16sII")


@dataclass(frozen=True, slots=True)
class DataKey:
    """The DEK of one disk of a replica. Its value never shows in a representation.

    ``epoch`` counts the disk's DEKs from 1; a new one starts a new chain. ``material`` is wiped with the last reference
    to it, when it is held.
    """

    replica: ReplicaId
    disk: DiskKey
    epoch: int
    material: bytes | Held = field(repr=False)

    @property
    def value(self) -> bytes:
        """The key itself, as an immutable copy that nobody can wipe."""
        return bytes(self._buffer)

    def grain_key(self, point: PointNumber) -> bytes:
        """AES-256-GCM key of the grains that ``point`` sealed."""
        return self._derive(b"grain", point)

    def manifest_key(self, point: PointNumber) -> bytes:
        """AES-256-GCM key of the point's manifest."""
        return self._derive(b"manifest", point)

    def root_key(self, point: PointNumber) -> bytes:
        """BLAKE3 key of the point's manifest root."""
        return self._derive(b"root", point)

    def record_key(self, point: PointNumber) -> bytes:
        """HMAC-SHA256 key of the point's record."""
        return self._derive(b"record", point)

    def journal_key(self, point: PointNumber) -> bytes:
        """Key of what is kept beside the staged disk for resuming its sync: AES-256-GCM and HMAC-SHA256."""
        return self._derive(b"journal", point)

    def vm_key(self, point: PointNumber) -> bytes:
        """AES-256-GCM key of the VM's configuration."""
        return self._derive(b"vm", point)

    def binding(self, point: PointNumber) -> bytes:
        """Replica (16 bytes), disk, point: what contexts and associated data begin with."""
        return _BINDING.pack(uuid.UUID(self.replica).bytes, self.disk, point)

    @property
    def _buffer(self) -> bytes | memoryview:
        return self.material.view if isinstance(self.material, Held) else self.material

    def _derive(self, purpose: bytes, point: PointNumber) -> bytes:
        context = b"keysapart/%d/%s\0" % (FORMAT_VERSION, purpose) + self.binding(point)
        return HKDF(SHA256(), 32, salt=None, info=context).derive(self._buffer)


Entropy = Callable[[int], bytes]
"""So many random bytes: ``os.urandom``. With any other, nonces may repeat and AES-GCM is broken: test vectors only."""


@dataclass(frozen=True, slots=True)
class Whose:
    """Which DEK a wrapping context is of."""

    tenant: TenantId
    replica: ReplicaId
    disk: DiskKey
    epoch: int


def wrapped_for(context: bytes) -> Whose | None:
    """What ``wrapping_context`` was given; None for anything else."""
    parts = context.split(b"\0")
    if len(parts) != 5 or parts[0] != b"keysapart/%d/dek" % FORMAT_VERSION:
        return None
    try:
        tenant, replica, disk, epoch = (part.decode("ascii") for part in parts[1:])
        return Whose(TenantId(tenant), ReplicaId(replica), DiskKey(int(disk)), int(epoch))
    except ValueError:
        return None


def wrapping_context(tenant: TenantId, replica: ReplicaId, disk: DiskKey, epoch: int) -> bytes:
    """Associated data under which a DEK is wrapped: it unwraps for this disk of this tenant only."""
    return f"keysapart/{FORMAT_VERSION}/dek\0{tenant}\0{replica}\0{disk}\0{epoch}".encode("ascii")


_PROOF = f"keysapart/{FORMAT_VERSION}/kek\0"


def proof_context(tenant: TenantId) -> bytes:
    """Associated data of what shows that a KEK is a tenant's."""
    return f"{_PROOF}{tenant}".encode("ascii")


def proof_for(context: bytes) -> TenantId | None:
    """The tenant of a ``proof_context``; None for any other associated data."""
    text = context.decode("ascii", "replace")
    return TenantId(text.removeprefix(_PROOF)) if text.startswith(_PROOF) else None

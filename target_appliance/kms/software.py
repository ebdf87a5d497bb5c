"""Wrapping with a KEK that this process holds: what the memory and the embedded driver share.

The state rules are those of a KMIP server: only an Active key encrypts, and a key that was deactivated does not even
decrypt here, because the appliance fails closed.
"""

import os
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.errors import KeyNotUsableError, KmsUnavailableError
from target_appliance.kms.port import ALGORITHM, KekState, WrappedKey

NONCE_BYTES = 12
TAG_BYTES = 16


@dataclass(frozen=True, slots=True)
class SoftwareKek:
    """One KEK with its value; ``value`` is empty once destroyed. Never printed."""

    kek_id: str
    name: str
    state: KekState
    value: bytes

    def __repr__(self) -> str:
        return f"SoftwareKek({self.kek_id}, {self.state})"

    def wrap(self, dek: bytes, associated_data: bytes) -> WrappedKey:
        """Encrypt ``dek`` under this KEK with a fresh random nonce.

        Raises:
            KeyNotUsableError: the KEK is not Active.
        """
        self._require_active()
        nonce = os.urandom(NONCE_BYTES)
        sealed = AESGCM(self.value).encrypt(nonce, dek, associated_data)
        return WrappedKey(self.kek_id, ALGORITHM, nonce, sealed[:-TAG_BYTES], sealed[-TAG_BYTES:])

    def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """The DEK again.

        Raises:
            KeyNotUsableError: the KEK is not Active, or the wrapped key or the associated data was altered.
        """
        self._require_active()
        if wrapped.algorithm != ALGORITHM or len(wrapped.nonce) != NONCE_BYTES or len(wrapped.tag) != TAG_BYTES:
            raise altered(self.kek_id)
        try:
            return AESGCM(self.value).decrypt(wrapped.nonce, wrapped.ciphertext + wrapped.tag, associated_data)
        except InvalidTag:
            raise altered(self.kek_id) from None

    def _require_active(self) -> None:
        if self.state is not KekState.ACTIVE:
            raise not_active(self.kek_id, self.state)


def not_active(kek_id: str, state: KekState) -> KeyNotUsableError:
    """The refusal to use a KEK in ``state``, the same words from every driver."""
    what = "does not exist at the KMS" if state is KekState.ABSENT else f"is {state} at the KMS, not active"
    return KeyNotUsableError(
        f"key {kek_id} {what}",
        subject=f"kek {kek_id}",
        next_step="let the KMS administrator restore the key or, if it was retired on purpose, expect its tenant's "
        "points to stay closed",
    )


def kept(kms: str, kek_id: str, state: KekState, why: str = "") -> KmsUnavailableError:
    """The complaint about a server that still has a key after it was told to destroy it."""
    return KmsUnavailableError(
        f"the KMS {kms} did not destroy key {kek_id}, which is {state} there{f' ({why})' if why else ''}",
        subject=f"kek {kek_id}",
        next_step="let its administrator allow this appliance to revoke and destroy keys, and ask again",
    )


def altered(kek_id: str) -> KeyNotUsableError:
    """The refusal of a wrapped key that does not authenticate, the same words from every driver."""
    return KeyNotUsableError(
        f"a wrapped key does not authenticate under key {kek_id}: it, or what it is bound to, was altered",
        subject=f"kek {kek_id}",
        next_step="restore the replica's record from a copy of the store",
    )

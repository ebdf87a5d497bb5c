"""What the appliance asks of a key server: one key-encryption key (KEK) per tenant, used without leaving the server.

Drivers pass ``tests/contracts/test_kms_contract.py``. Calls may come from several threads. A driver keeps its own
deadlines: connect 5 s, call 10 s, one reconnect per call. No driver logs key material or puts it into an exception.

Every method may raise KmsUnavailableError (no answer, or the server refuses the appliance; retrying may help).
"""

import enum
from dataclasses import dataclass
from typing import Protocol

from common.ids import TenantId

ALGORITHM = "AES-256-GCM"
"""How a DEK is wrapped; the only value of ``WrappedKey.algorithm``."""


class KekState(enum.StrEnum):
    """KMIP's key states, and ABSENT for a key that the server does not know (any more)."""

    PRE_ACTIVE = "pre-active"
    ACTIVE = "active"
    DEACTIVATED = "deactivated"
    COMPROMISED = "compromised"
    DESTROYED = "destroyed"
    ABSENT = "absent"


GONE = frozenset({KekState.DESTROYED, KekState.ABSENT})
"""Nothing brings such a key back."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A data-encryption key under a KEK; safe to store. ``algorithm`` is ALGORITHM."""

    kek_id: str
    algorithm: str
    nonce: bytes
    ciphertext: bytes
    tag: bytes
    key_version: int | None = None
    """Which version of the KEK, at a server that counts them."""


class Kms(Protocol):
    """A key server."""

    @property
    def name(self) -> str:
        """Driver and server for people, such as ``kmip kms.example.net:5696``."""
        ...

    def probe(self) -> None:
        """Ask the server a cheap question.

        Raises:
            KmsUnavailableError: it does not answer properly.
        """
        ...

    def create_kek(self, tenant: TenantId) -> str:
        """Make and activate a 256-bit AES key named for the tenant; returns its id at the server."""
        ...

    def state(self, kek_id: str) -> KekState:
        """The key's state now, asked of the server, never remembered."""
        ...

    def wrap(self, kek_id: str, dek: bytes, associated_data: bytes) -> WrappedKey:
        """Encrypt ``dek`` (32 bytes) under the KEK, bound to ``associated_data``.

        Raises:
            KeyNotUsableError: the KEK is not Active.
        """
        ...

    def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """The DEK again.

        Raises:
            KeyNotUsableError: the KEK may not be used, or the wrapped key or the associated data was altered.
        """
        ...

    def destroy_kek(self, kek_id: str) -> None:
        """Erase a key for good: what it wrapped never opens again. A key that is gone already is no error.

        Returns only when the server says afterwards that the key is gone (GONE).

        Raises:
            KmsUnavailableError: the server did not answer, or kept the key; asking again does no harm.
        """
        ...

    def close(self) -> None:
        """Drop connections; never raises."""
        ...

"""Trying a key before anything depends on it: it must give back what it took, and refuse what was altered."""

import os
from collections.abc import Callable
from typing import Final

from common.errors import KeyNotUsableError, KmsUnavailableError
from target_appliance.kms.port import WrappedKey

_DEK_BYTES: Final = 32
_BOUND_TO: Final = b"keysapart self-test"
_OTHER: Final = b"keysapart self-tesT"


def try_key(
    kms: str,
    kek_id: str,
    wrap: Callable[[str, bytes, bytes], WrappedKey],
    unwrap: Callable[[WrappedKey, bytes], bytes],
) -> None:
    """Return if ``kek_id`` wraps and unwraps as the port says.

    Args:
        kms: name of the server, for people.
        kek_id: the key.
        wrap: as Kms.wrap.
        unwrap: as Kms.unwrap.

    Raises:
        KmsUnavailableError: it does not.
        KeyNotUsableError: the key may not be used at all.
    """
    secret = os.urandom(_DEK_BYTES)
    wrapped = wrap(kek_id, secret, _BOUND_TO)
    if secret in wrapped.ciphertext:
        raise _unfit(kms, "does not encrypt what it is given to encrypt")
    try:
        back = unwrap(wrapped, _BOUND_TO)
    except KeyNotUsableError:
        back = b""
    if back != secret:
        raise _unfit(kms, "does not decrypt what it encrypted")
    try:
        unwrap(wrapped, _OTHER)
    except KeyNotUsableError:
        return
    raise _unfit(kms, "decrypts although the associated data was altered, so it protects no key against exchange")


def _unfit(kms: str, what: str) -> KmsUnavailableError:
    return KmsUnavailableError(
        f"the KMS {kms} {what}",
        subject=f"kms {kms}",
        next_step="use a server or token that does AES-256-GCM with associated data",
    )

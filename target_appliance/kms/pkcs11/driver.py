"""A PKCS#11 token as the appliance's KMS: KEKs are AES keys that never leave it, DEKs are wrapped by CKM_AES_GCM.

PKCS#11 knows no key states. A KEK is Active while the token holds it and lets it encrypt and decrypt: whoever takes one
of both away (CKA_ENCRYPT, CKA_DECRYPT) deactivates it. Its dates say nothing, as the standard has it. A KEK's id is its
CKA_ID in hex.

A token whose login was lost hides private objects instead of complaining, so that a key seems to be gone. The trial key
of the driver's own test therefore stays in the token: a key counts as absent only while that one can be seen.
"""

import os
import secrets
from collections.abc import Callable
from typing import Any, Final

import pkcs11
from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, ObjectClass

from common import log
from common.errors import KmsUnavailableError
from common.ids import TenantId
from target_appliance.config import Pkcs11Settings
from target_appliance.kms.pkcs11.token import LOST, HiddenError, Token, describe
from target_appliance.kms.port import ALGORITHM, GONE, KekState, WrappedKey
from target_appliance.kms.software import NONCE_BYTES, TAG_BYTES, altered, kept, not_active
from target_appliance.kms.trial import try_key

_KEK_BITS: Final = 256
_ID_BYTES: Final = 16
_TRIAL_ID: Final = b"keysapart trial."
_TRIAL_LABEL: Final = "keysapart/self-test"
_TEMPLATE: Final = {
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.ENCRYPT: True,
    Attribute.DECRYPT: True,
    Attribute.WRAP: False,
    Attribute.UNWRAP: False,
    Attribute.SIGN: False,
    Attribute.VERIFY: False,
}
CALL_SECONDS: Final = 10.0

_log = log.get("kms")


class Pkcs11Kms:
    """Keys in one token. Thread-safe; calls take turns.

    Before the first key is used, the token is tested once: it must return what it encrypted, and refuse altered
    associated data. A token that does not is never used.
    """

    def __init__(
        self,
        settings: Pkcs11Settings,
        read_pin: Callable[[], str],
        seconds: float = CALL_SECONDS,
        load: Callable[[str], Any] = pkcs11.lib,
    ) -> None:
        self._token = Token(settings, read_pin, seconds, load)
        self._passed = False
        self.name = self._token.name

    def probe(self) -> None:
        """See Kms. The first time it also tests the token."""
        self._require_tested()
        self.state(_TRIAL_ID.hex())

    def create_kek(self, tenant: TenantId) -> str:
        """See Kms."""
        self._require_tested()
        made = secrets.token_bytes(_ID_BYTES)
        self._ask("does not make", made.hex(), lambda session: _generate(session, made, f"keysapart/{tenant}"))
        return made.hex()

    def state(self, kek_id: str) -> KekState:
        """See Kms."""
        self._require_tested()
        state: KekState = self._ask(
            "does not tell the state of", kek_id, lambda session: _state(_found(session, kek_id))
        )
        return state

    def wrap(self, kek_id: str, dek: bytes, associated_data: bytes) -> WrappedKey:
        """See Kms."""
        self._require_tested()
        return self._wrap(kek_id, dek, associated_data)

    def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """See Kms."""
        self._require_tested()
        return self._unwrap(wrapped, associated_data)

    def destroy_kek(self, kek_id: str) -> None:
        """See Kms."""
        if self.state(kek_id) in GONE:
            return
        self._ask("does not destroy", kek_id, lambda session: _destroy(_found(session, kek_id)))
        state = self.state(kek_id)
        if state not in GONE:
            raise kept(self.name, kek_id, state)

    def close(self) -> None:
        """See Kms."""
        self._token.close()

    def _wrap(self, kek_id: str, dek: bytes, associated_data: bytes) -> WrappedKey:
        nonce = os.urandom(NONCE_BYTES)

        def encrypt(session: Any) -> bytes:
            sealed: bytes = _usable(session, kek_id).encrypt(dek, **_gcm(nonce, associated_data))
            return sealed

        sealed = self._ask("does not encrypt under", kek_id, encrypt)
        if len(sealed) != len(dek) + TAG_BYTES:
            raise self._token.unavailable("returns no tag of 16 bytes with what it encrypts")
        return WrappedKey(kek_id, ALGORITHM, nonce, sealed[:-TAG_BYTES], sealed[-TAG_BYTES:])

    def _unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        kek_id = wrapped.kek_id
        well_formed = (
            wrapped.algorithm == ALGORITHM and len(wrapped.nonce) == NONCE_BYTES and len(wrapped.tag) == TAG_BYTES
        )

        def decrypt(session: Any) -> bytes:
            key = _usable(session, kek_id)
            if not well_formed or not wrapped.ciphertext:
                raise altered(kek_id)
            parameters = _gcm(wrapped.nonce, associated_data)
            for again in (True, False):
                try:
                    dek: bytes = key.decrypt(wrapped.ciphertext + wrapped.tag, **parameters)
                except LOST:
                    raise
                except pkcs11.PKCS11Error:
                    # Tokens answer a wrong tag with whatever error they like. So: does this key decrypt at all?
                    if again:
                        good = _gcm(os.urandom(NONCE_BYTES), b"")
                        key.decrypt(key.encrypt(bytes(_ID_BYTES), **good), **good)
                else:
                    return dek
            raise altered(kek_id)

        opened: bytes = self._ask("does not decrypt under", kek_id, decrypt)
        return opened

    def _require_tested(self) -> None:
        if self._passed:
            return
        trial = _TRIAL_ID.hex()
        self._ask("does not show", trial, _one_trial)
        try_key(self.name, trial, self._wrap, self._unwrap)
        self._passed = True
        _log.info("KMS passed its test", kms=self.name)

    def _ask(self, what: str, kek_id: str, use: Callable[[Any], Any]) -> Any:
        try:
            return self._token.call(use)
        except pkcs11.PKCS11Error as error:
            raise self._refuses(f"{what} key {kek_id}", error) from None

    def _refuses(self, what: str, error: Exception) -> KmsUnavailableError:
        return KmsUnavailableError(
            f"the KMS {self.name} {what} ({describe(error)})",
            subject=f"kms {self.name}",
            next_step="let its administrator allow this user of the token to make, use and destroy AES keys",
        )


def _objects(session: Any, identifier: bytes) -> list[Any]:
    wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.KEY_TYPE: KeyType.AES, Attribute.ID: identifier}
    return list(session.get_objects(wanted))


def _generate(session: Any, made: bytes, label: str) -> None:
    session.generate_key(KeyType.AES, _KEK_BITS, id=made, label=label, store=True, template=_TEMPLATE)


def _one_trial(session: Any) -> None:
    """Leave one key to test the token with: two processes that find none may each have made one."""
    found = _objects(session, _TRIAL_ID)
    for other in found[1:]:
        other.destroy()
    if not found:
        _generate(session, _TRIAL_ID, _TRIAL_LABEL)


def _found(session: Any, kek_id: str) -> list[Any]:
    """The key, or several that bear its id; empty only while the token shows what it has. Raises HiddenError."""
    try:
        identifier = bytes.fromhex(kek_id)
    except ValueError:
        identifier = b""
    found = _objects(session, identifier) if identifier else []
    if not found and not _objects(session, _TRIAL_ID):
        raise HiddenError("it does not show its keys")
    return found


def _state(keys: list[Any]) -> KekState:
    if not keys:
        return KekState.ABSENT
    usable = all(key[Attribute.ENCRYPT] and key[Attribute.DECRYPT] for key in keys)
    return KekState.ACTIVE if usable else KekState.DEACTIVATED


def _usable(session: Any, kek_id: str) -> Any:
    """The one key of this id. Raises KeyNotUsableError, HiddenError, pkcs11.MultipleObjectsReturned."""
    keys = _found(session, kek_id)
    state = _state(keys)
    if state is not KekState.ACTIVE:
        raise not_active(kek_id, state)
    if len(keys) > 1:
        raise pkcs11.MultipleObjectsReturned(f"{len(keys)} keys bear this id")
    return keys[0]


def _destroy(keys: list[Any]) -> None:
    for key in keys:
        key.destroy()


def _gcm(nonce: bytes, associated_data: bytes) -> dict[str, Any]:
    return {
        "mechanism": Mechanism.AES_GCM,
        "mechanism_param": GCMParams(nonce, associated_data, TAG_BYTES * 8),
    }

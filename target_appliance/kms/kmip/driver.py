"""A KMIP 1.4 server as the appliance's KMS: KEKs never leave it, DEKs are wrapped by its Encrypt operation."""

import os
import secrets
from typing import Any

from kmip.core.enums import Operation, State

from common import log
from common.clock import Clock
from common.errors import KmsUnavailableError
from common.ids import TenantId
from target_appliance.config import KmipSettings
from target_appliance.kms.kmip import messages
from target_appliance.kms.kmip.messages import RefusedError
from target_appliance.kms.link.connection import Identity, Receive
from target_appliance.kms.link.pool import Deadlines, Pool
from target_appliance.kms.port import ALGORITHM, GONE, KekState, WrappedKey
from target_appliance.kms.software import NONCE_BYTES, TAG_BYTES, altered, kept, not_active

_STATES = {
    State.PRE_ACTIVE: KekState.PRE_ACTIVE,
    State.ACTIVE: KekState.ACTIVE,
    State.DEACTIVATED: KekState.DEACTIVATED,
    State.COMPROMISED: KekState.COMPROMISED,
    State.DESTROYED: KekState.DESTROYED,
    State.DESTROYED_COMPROMISED: KekState.DESTROYED,
}
_NEEDED = (Operation.CREATE, Operation.ACTIVATE, Operation.GET_ATTRIBUTES, Operation.ENCRYPT, Operation.DECRYPT)
_DEK_BYTES = 32
_UNREACHED = (
    "check that the KMIP server runs, that the network lets the appliance through, and the certificates under "
    "[kms.kmip]"
)

_log = log.get("kms")


class KmipKms:
    """Keys at a KMIP server, or at several that hold the same keys. Thread-safe.

    Before the first key is used, the server is tested once: it must return what it encrypted, and refuse altered
    associated data. A server that does not is never used.
    """

    def __init__(self, settings: KmipSettings, clock: Clock, deadlines: Deadlines | None = None) -> None:
        identity = Identity(settings.ca_file, settings.certificate_file, settings.key_file)
        identity.context()  # shows wrong files at the start instead of at the first call
        self._pool = Pool(
            settings.endpoints, settings.server_name, identity, clock, deadlines or Deadlines(), next_step=_UNREACHED
        )
        self._passed = False
        self.name = f"kmip {', '.join(settings.endpoints)}"

    def probe(self) -> None:
        """See Kms. The first time it also tests the server."""
        try:
            spoken = self._ask(Operation.DISCOVER_VERSIONS, messages.discover_versions())
        except RefusedError as error:
            raise self._refuses("does not speak KMIP 1.4", error) from None
        if not spoken.protocol_versions:
            raise self._unfit("does not speak KMIP 1.4, the first version that carries associated data")
        self._require_tested()

    def create_kek(self, tenant: TenantId) -> str:
        """See Kms."""
        self._require_tested()
        # Some servers refuse a name that is taken, and a tenant may get a second KEK one day.
        return self._create(f"keysapart/{tenant}/{secrets.token_hex(4)}")

    def state(self, kek_id: str) -> KekState:
        """See Kms."""
        try:
            return _STATES[self._ask(Operation.GET_ATTRIBUTES, messages.get_state(kek_id), messages.state_in)]
        except RefusedError as error:
            if error.reason == "ITEM_NOT_FOUND":
                return KekState.ABSENT
            raise self._refuses(f"does not tell the state of key {kek_id}", error) from None

    def wrap(self, kek_id: str, dek: bytes, associated_data: bytes) -> WrappedKey:
        """See Kms."""
        self._require_tested()
        return self._wrap(kek_id, dek, associated_data)

    def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """See Kms."""
        self._require_tested()
        # KMIP lets a server decrypt under a deactivated key; the appliance fails closed instead.
        self._require_active(wrapped.kek_id)
        if wrapped.algorithm != ALGORITHM or len(wrapped.nonce) != NONCE_BYTES or len(wrapped.tag) != TAG_BYTES:
            raise altered(wrapped.kek_id)
        try:
            return self._decrypt(wrapped, associated_data)
        except RefusedError as error:
            self._require_active(wrapped.kek_id)
            # Servers answer a wrong tag with whatever reason they like. So: does this key decrypt at all?
            check = self._wrap(wrapped.kek_id, bytes(_DEK_BYTES), b"")
            try:
                self._decrypt(check, b"")
            except RefusedError:
                raise self._refuses(f"does not decrypt under key {wrapped.kek_id}", error) from None
            raise altered(wrapped.kek_id) from None

    def destroy_kek(self, kek_id: str) -> None:
        """See Kms. Revoke, then Destroy; a refusal counts only if the key is still there afterwards."""
        state, refusals = self.state(kek_id), []
        steps = [(Operation.DESTROY, messages.destroy(kek_id))]
        if state is KekState.ACTIVE:
            steps.insert(0, (Operation.REVOKE, messages.revoke(kek_id)))
        for operation, request in () if state in GONE else steps:
            try:
                self._ask(operation, request)
            except RefusedError as error:
                refusals.append(f"{operation.name} was answered {error}")
        state = self.state(kek_id)
        if state not in GONE:
            raise kept(self.name, kek_id, state, "; ".join(refusals))

    def close(self) -> None:
        """See Kms."""
        self._pool.close()

    def _require_tested(self) -> None:
        # Without a lock: two threads that test at once do no harm, one that waits for another's deadline does.
        if not self._passed:
            self._test()
            self._passed = True
            _log.info("KMS passed its test", kms=self.name)

    def _test(self) -> None:
        """Raise KmsUnavailableError unless the server does AES-GCM as it should; its trial key is removed again."""
        try:
            operations = messages.offered(self._ask(Operation.QUERY, messages.query()))
        except RefusedError:  # Query is optional for a client; what matters is tried out below
            operations = ()
        lacking = [operation.name for operation in _NEEDED if operations and operation not in operations]
        if lacking:
            raise self._unfit(f"does not offer {', '.join(lacking)}")
        key = self._create(f"keysapart/self-test/{secrets.token_hex(8)}")
        try:
            self._test_with(key)
        finally:
            self._remove(key)

    def _test_with(self, key: str) -> None:
        secret, bound_to = os.urandom(_DEK_BYTES), b"keysapart self-test"
        wrapped = self._wrap(key, secret, bound_to)
        if secret in wrapped.ciphertext:
            raise self._unfit("does not encrypt what it is given to encrypt")
        try:
            if self._decrypt(wrapped, bound_to) != secret:
                raise self._unfit("does not decrypt what it encrypted")
        except RefusedError as error:
            raise self._refuses("does not decrypt what it encrypted", error) from None
        try:
            self._decrypt(wrapped, b"keysapart self-tesT")
        except RefusedError:
            return
        raise self._unfit("decrypts although the associated data was altered, so it protects no key against exchange")

    def _create(self, name: str) -> str:
        try:
            made = self._ask(Operation.CREATE, messages.create(name), repeatable=False)
            key = str(getattr(made.unique_identifier, "value", made.unique_identifier))
            self._ask(Operation.ACTIVATE, messages.activate(key))
        except RefusedError as error:
            raise self._refuses("does not make a key", error) from None
        return key

    def _remove(self, key: str) -> None:
        try:
            self._ask(Operation.REVOKE, messages.revoke(key))
            self._ask(Operation.DESTROY, messages.destroy(key))
        except (RefusedError, KmsUnavailableError) as error:
            _log.warning("the KMS kept the trial key of its test; remove it by hand", kek=key, cause=str(error))

    def _wrap(self, kek_id: str, dek: bytes, associated_data: bytes) -> WrappedKey:
        nonce = os.urandom(NONCE_BYTES)
        try:
            sealed = self._ask(Operation.ENCRYPT, messages.encrypt(kek_id, nonce, dek, associated_data))
        except RefusedError as error:
            self._require_active(kek_id)
            raise self._refuses(f"does not encrypt under key {kek_id}", error) from None
        used = sealed.iv_counter_nonce or nonce  # a server may insist on a nonce of its own
        if len(sealed.data or b"") != len(dek) or len(sealed.auth_tag or b"") != TAG_BYTES or len(used) != NONCE_BYTES:
            raise self._unfit("returns no tag of 16 bytes with what it encrypts, as KMIP 1.4 asks for")
        return WrappedKey(kek_id, ALGORITHM, used, sealed.data, sealed.auth_tag)

    def _decrypt(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        request = messages.decrypt(wrapped.kek_id, wrapped.nonce, wrapped.ciphertext, wrapped.tag, associated_data)
        plaintext: bytes = self._ask(Operation.DECRYPT, request).data
        return plaintext

    def _require_active(self, kek_id: str) -> None:
        state = self.state(kek_id)
        if state is not KekState.ACTIVE:
            raise not_active(kek_id, state)

    def _ask(self, operation: Operation, payload: Any, read: Any = None, *, repeatable: bool = True) -> Any:
        def answer(receive: Receive) -> Any:
            decoded = messages.decode(messages.receive_message(receive), operation)
            return decoded if read is None else read(decoded)

        return self._pool.call(messages.encode(operation, payload), answer, repeatable=repeatable)

    def _refuses(self, what: str, error: RefusedError) -> KmsUnavailableError:
        return KmsUnavailableError(
            f"the KMS {self.name} {what} ({error})",
            subject=f"kms {self.name}",
            next_step="let its administrator allow this appliance's certificate to create, activate and use keys",
        )

    def _unfit(self, what: str) -> KmsUnavailableError:
        return KmsUnavailableError(
            f"the KMS {self.name} {what}",
            subject=f"kms {self.name}",
            next_step="use a server that implements Encrypt and Decrypt of KMIP 1.4 with AES-GCM",
        )

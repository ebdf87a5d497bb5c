"""OpenBao's or Vault's Transit engine as the appliance's KMS: KEKs are aes256-gcm96 keys that never leave it.

A KEK's id is the key's name in the engine. Transit knows no key states: a key is Active while it is there and not
soft-deleted, which OpenBao can and Vault cannot. Encrypting under a name that does not exist makes a key of that name,
if the token may create one there; so the key is looked at before, and the policy in docs/operations.md forbids it.
"""

import base64
import binascii
import re
import secrets
import urllib.parse
from collections.abc import Callable
from typing import Any, Final

from common import log
from common.address import split
from common.clock import Clock
from common.errors import KeyNotUsableError, KmsUnavailableError
from common.ids import TenantId
from target_appliance.config import TransitSettings
from target_appliance.kms.link.connection import Identity
from target_appliance.kms.link.pool import Deadlines, Pool
from target_appliance.kms.port import ALGORITHM, GONE, KekState, WrappedKey
from target_appliance.kms.software import NONCE_BYTES, TAG_BYTES, altered, kept, not_active
from target_appliance.kms.transit.http import Endpoint, RefusedError, read_answer
from target_appliance.kms.trial import try_key

_TYPE: Final = "aes256-gcm96"
_TRIAL: Final = "keysapart-self-test"
_DEK_BYTES: Final = 32
_CIPHERTEXT: Final = re.compile(r"vault:v([1-9][0-9]{0,8}):([A-Za-z0-9+/]+=*)")
_UNREACHED: Final = (
    "check that OpenBao or Vault runs and is unsealed, that the network lets the appliance through, and ca_file and "
    "server_name under [kms.transit]"
)

_log = log.get("kms")


class TransitKms:
    """Keys in one mount of the Transit engine. Thread-safe.

    Before the first key is used, the server is tested once, with a key that stays there: it must return what it
    encrypted, and refuse altered associated data (Vault before 1.10 ignores it). A server that does not is never used.
    """

    def __init__(
        self,
        settings: TransitSettings,
        read_token: Callable[[], str],
        clock: Clock,
        deadlines: Deadlines | None = None,
    ) -> None:
        identity = Identity(settings.ca_file)
        identity.context()  # shows a wrong file at the start instead of at the first call
        deadlines = deadlines or Deadlines()
        self._pool = Pool(settings.endpoints, settings.server_name, identity, clock, deadlines, next_step=_UNREACHED)
        self._endpoint = Endpoint(settings.server_name or split(settings.endpoints[0])[0], settings.namespace)
        self._mount = settings.mount
        self._read_token = read_token
        self._passed = False
        self.name = f"transit {', '.join(settings.endpoints)}"

    def probe(self) -> None:
        """See Kms. The first time it also tests the server."""
        self._require_tested()
        self.state(_TRIAL)

    def create_kek(self, tenant: TenantId) -> str:
        """See Kms."""
        self._require_tested()
        name = f"keysapart-{tenant}-{secrets.token_hex(4)}"
        self._create(name)
        return name

    def state(self, kek_id: str) -> KekState:
        """See Kms."""
        return self._look(kek_id)[0]

    def wrap(self, kek_id: str, dek: bytes, associated_data: bytes) -> WrappedKey:
        """See Kms."""
        self._require_tested()
        return self._wrap(kek_id, dek, associated_data)

    def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """See Kms."""
        self._require_tested()
        return self._unwrap(wrapped, associated_data)

    def destroy_kek(self, kek_id: str) -> None:
        """See Kms. A refusal counts only if the key is still there afterwards."""
        if self.state(kek_id) in GONE:
            return
        refusals = []
        for method, path, body in (("POST", "/config", {"deletion_allowed": True}), ("DELETE", "", None)):
            try:
                self._ask(method, f"keys/{_quoted(kek_id)}{path}", body)
            except RefusedError as error:
                refusals.append(str(error))
        state = self.state(kek_id)
        if state not in GONE:
            raise kept(self.name, kek_id, state, "; ".join(refusals))

    def close(self) -> None:
        """See Kms."""
        self._pool.close()

    def _require_tested(self) -> None:
        if self._passed:
            return
        self._create(_TRIAL)  # nothing happens to one that is there
        try_key(self.name, _TRIAL, self._wrap, self._unwrap)
        self._passed = True
        _log.info("KMS passed its test", kms=self.name)

    def _create(self, name: str) -> None:
        try:
            self._ask("POST", f"keys/{name}", {"type": _TYPE})
        except RefusedError as error:
            raise self._refuses(f"does not make key {name}", error) from None

    def _look(self, kek_id: str) -> tuple[KekState, dict[str, Any]]:
        """The state of a key, and what the server says of it."""
        if not kek_id or kek_id in {".", ".."}:
            return KekState.ABSENT, {}
        try:
            told = self._ask("GET", f"keys/{_quoted(kek_id)}")
        except RefusedError as error:
            if error.absent:
                return KekState.ABSENT, {}
            raise self._refuses(f"does not tell the state of key {kek_id}", error) from None
        if told.get("type") != _TYPE or told.get("derived") or told.get("exportable"):
            raise self._unfit(f"has key {kek_id}, but it is not of type {_TYPE}, or derived, or exportable")
        return (KekState.DEACTIVATED if told.get("soft_deleted") else KekState.ACTIVE), told

    def _require_active(self, kek_id: str) -> dict[str, Any]:
        state, told = self._look(kek_id)
        if state is not KekState.ACTIVE:
            raise not_active(kek_id, state)
        return told

    def _wrap(self, kek_id: str, dek: bytes, associated_data: bytes) -> WrappedKey:
        self._require_active(kek_id)
        try:
            return self._encrypt(kek_id, dek, associated_data)
        except RefusedError as error:
            self._require_active(kek_id)
            raise self._refuses(f"does not encrypt under key {kek_id}", error) from None

    def _unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        kek_id = wrapped.kek_id
        told = self._require_active(kek_id)
        lengths = len(wrapped.nonce), len(wrapped.tag)
        if wrapped.algorithm != ALGORITHM or lengths != (NONCE_BYTES, TAG_BYTES) or wrapped.key_version is None:
            raise altered(kek_id)
        oldest = told.get("min_decryption_version")
        if isinstance(oldest, int) and wrapped.key_version < oldest:
            raise _too_old(wrapped, oldest)
        try:
            return self._decrypt(wrapped, associated_data)
        except RefusedError as error:
            self._require_active(kek_id)
            # A wrong tag is told in words only. So: does this key decrypt at all?
            try:
                self._decrypt(self._encrypt(kek_id, bytes(_DEK_BYTES), b""), b"")
            except RefusedError:
                raise self._refuses(f"does not decrypt under key {kek_id}", error) from None
            raise altered(kek_id) from None

    def _encrypt(self, kek_id: str, dek: bytes, associated_data: bytes) -> WrappedKey:
        body = {"plaintext": _text(dek), "associated_data": _text(associated_data)}
        found = _CIPHERTEXT.fullmatch(str(self._ask("POST", f"encrypt/{_quoted(kek_id)}", body).get("ciphertext")))
        sealed = b"" if found is None else _bytes(found[2])
        if found is None or len(sealed) != NONCE_BYTES + len(dek) + TAG_BYTES:
            raise self._unfit("does not return nonce, ciphertext and tag of what it encrypts")
        nonce, ciphertext, tag = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:-TAG_BYTES], sealed[-TAG_BYTES:]
        return WrappedKey(kek_id, ALGORITHM, nonce, ciphertext, tag, int(found[1]))

    def _decrypt(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        sealed = _text(wrapped.nonce + wrapped.ciphertext + wrapped.tag)
        body = {"ciphertext": f"vault:v{wrapped.key_version}:{sealed}", "associated_data": _text(associated_data)}
        return _bytes(str(self._ask("POST", f"decrypt/{_quoted(wrapped.kek_id)}", body).get("plaintext")))

    def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        # Everything that is asked may be asked twice: keys are made under names of our own.
        request = self._endpoint.request(self._read_token(), method, f"{self._mount}/{path}", body)
        return self._pool.call(request, read_answer)

    def _refuses(self, what: str, error: RefusedError) -> KmsUnavailableError:
        return KmsUnavailableError(
            f"the KMS {self.name} {what} ({error})",
            subject=f"kms {self.name}",
            next_step="check that the token is valid, that its policy allows what docs/operations.md lists, and mount "
            "and namespace under [kms.transit]",
        )

    def _unfit(self, what: str) -> KmsUnavailableError:
        return KmsUnavailableError(
            f"the KMS {self.name} {what}",
            subject=f"kms {self.name}",
            next_step=f"use a key of type {_TYPE} of the Transit engine of OpenBao, or of Vault 1.10 or newer",
        )


def _too_old(wrapped: WrappedKey, oldest: int) -> KeyNotUsableError:
    return KeyNotUsableError(
        f"key {wrapped.kek_id} is not to be used in version {wrapped.key_version} at the KMS, whose "
        f"min_decryption_version is {oldest}",
        subject=f"kek {wrapped.kek_id}",
        next_step="lower min_decryption_version until all keys are wrapped anew",
    )


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        return b""

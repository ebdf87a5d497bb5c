"""Keys in one sealed file on the appliance itself, for one-machine use and trials.

What it cannot do: keep keys away from whoever owns this machine. File and passphrase together open every point, so the
driver says so in its name and in the log at every start. Losing the file loses every point: back it up elsewhere.

File format, JSON: ``scrypt`` (salt, n, r, p), ``nonce`` and ``sealed``, which is AES-256-GCM under the key that scrypt
makes of the passphrase, with the canonical header as associated data. The file is read anew at every call, because
another process, an operator's command for one, may have written it.
"""

import base64
import contextlib
import dataclasses
import fcntl
import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from common import log
from common.errors import ConfigError, KmsUnavailableError, PreconditionError
from common.ids import TenantId
from common.private_file import write_file
from target_appliance.kms.port import GONE, KekState, WrappedKey
from target_appliance.kms.software import NONCE_BYTES, SoftwareKek, not_active

_FORMAT: Final = "keysapart embedded kms 1"
_KEY_BYTES: Final = 32
_SALT_BYTES: Final = 16
# 128 MiB and about a third of a second: once per process, and dear to whoever tries passphrases.
_SCRYPT: Final = {"n": 1 << 17, "r": 8, "p": 1}
_LARGEST_SCRYPT: Final = 1 << 20

_log = log.get("kms")


class EmbeddedKms:
    """Keys in ``file``. Thread-safe; several processes may use one file."""

    def __init__(self, file: Path, header: dict[str, Any], key: bytes) -> None:
        self._file = file
        self._header = header
        self._aead = AESGCM(key)
        self._writing = threading.Lock()
        self.name = f"embedded {file} (keys on this machine)"

    @classmethod
    def create(cls, file: Path, passphrase: bytes) -> None:
        """Make a file without keys.

        Raises:
            AlreadyExistsError: there is one; it is left alone.
        """
        header = {"format": _FORMAT, "scrypt": {"salt": os.urandom(_SALT_BYTES).hex(), **_SCRYPT}}
        kms = cls(file, header, _derive(header, passphrase))
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(file, kms._sealed({}))

    @classmethod
    def open(cls, file: Path, passphrase: bytes) -> Self:
        """The keys in ``file``.

        Raises:
            PreconditionError: there is no such file; none is made, because keys may be expected in it.
            ConfigError: the passphrase does not open it, or it is no such file.
        """
        try:
            content = json.loads(file.read_bytes())
            header = {"format": content["format"], "scrypt": content["scrypt"]}
            key = _derive(header, passphrase)
        except FileNotFoundError:
            raise PreconditionError(
                f"the embedded KMS has no file {file}",
                subject=f"file {file}",
                next_step="put it back from its backup; on a new appliance target-appliance init makes it",
            ) from None
        except (ValueError, KeyError, TypeError):
            raise _unreadable(file, "it is not a key file of this release") from None
        kms = cls(file, header, key)
        try:
            kms._load()
        except InvalidTag:
            raise _unreadable(file, "the passphrase does not open it, or it was altered") from None
        except (ValueError, KeyError, TypeError):
            raise _unreadable(file, "it is not a key file of this release") from None
        _log.warning("embedded KMS: keys lie on this machine beside what they protect", file=str(file))
        return kms

    def probe(self) -> None:
        """See Kms."""
        self._keks()

    def create_kek(self, tenant: TenantId) -> str:
        """See Kms."""
        kek = SoftwareKek(str(uuid.uuid4()), f"keysapart/{tenant}", KekState.ACTIVE, os.urandom(_KEY_BYTES))
        self._rewrite(lambda keks: {**keks, kek.kek_id: kek})
        return kek.kek_id

    def state(self, kek_id: str) -> KekState:
        """See Kms."""
        kek = self._keks().get(kek_id)
        return KekState.ABSENT if kek is None else kek.state

    def wrap(self, kek_id: str, dek: bytes, associated_data: bytes) -> WrappedKey:
        """See Kms."""
        return self._kek(kek_id).wrap(dek, associated_data)

    def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """See Kms."""
        return self._kek(wrapped.kek_id).unwrap(wrapped, associated_data)

    def destroy_kek(self, kek_id: str) -> None:
        """See Kms. Copies of the file, a backup's too, still hold the key, so the log says so."""
        if self.state(kek_id) in GONE:
            return
        self.set_state(kek_id, KekState.DESTROYED)
        _log.warning("a key was destroyed in the file; its backups still hold it", file=str(self._file), kek=kek_id)

    def close(self) -> None:
        """See Kms."""

    def set_state(self, kek_id: str, state: KekState) -> None:
        """Move a key to ``state`` as an administrator; DESTROYED drops its value from the file for good.

        Raises:
            KeyNotUsableError: there is no such key.
        """

        def changed(keks: dict[str, SoftwareKek]) -> dict[str, SoftwareKek]:
            if kek_id not in keks:
                raise not_active(kek_id, KekState.ABSENT)
            value = b"" if state is KekState.DESTROYED else keks[kek_id].value
            return {**keks, kek_id: dataclasses.replace(keks[kek_id], state=state, value=value)}

        self._rewrite(changed)

    def _kek(self, kek_id: str) -> SoftwareKek:
        kek = self._keks().get(kek_id)
        if kek is None:
            raise not_active(kek_id, KekState.ABSENT)
        return kek

    def _keks(self) -> dict[str, SoftwareKek]:
        try:
            return self._load()
        except (OSError, ValueError, KeyError, TypeError, InvalidTag) as error:
            raise self._unavailable(error) from None

    def _load(self) -> dict[str, SoftwareKek]:
        content = json.loads(self._file.read_bytes())
        header = {"format": content["format"], "scrypt": content["scrypt"]}
        plain = self._aead.decrypt(
            bytes.fromhex(content["nonce"]), base64.b64decode(content["sealed"], validate=True), _canonical(header)
        )
        return {
            kek_id: SoftwareKek(kek_id, entry["name"], KekState(entry["state"]), base64.b64decode(entry["value"]))
            for kek_id, entry in json.loads(plain).items()
        }

    def _sealed(self, keks: dict[str, SoftwareKek]) -> bytes:
        plain = {
            kek.kek_id: {"name": kek.name, "state": kek.state, "value": base64.b64encode(kek.value).decode()}
            for kek in keks.values()
        }
        nonce = os.urandom(NONCE_BYTES)
        sealed = self._aead.encrypt(nonce, json.dumps(plain).encode(), _canonical(self._header))
        content = {**self._header, "nonce": nonce.hex(), "sealed": base64.b64encode(sealed).decode()}
        return json.dumps(content, indent=1).encode() + b"\n"

    def _rewrite(self, change: Callable[[dict[str, SoftwareKek]], dict[str, SoftwareKek]]) -> None:
        with self._writing, self._locked():
            keks = change(self._keks())
            try:
                write_file(self._file, self._sealed(keks), replace=True)
            except OSError as error:
                raise self._unavailable(error) from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from writing; the lock is on a neighbour, because the file itself is replaced."""
        path = self._file.with_name(self._file.name + ".lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise self._unavailable(error) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _unavailable(self, error: Exception) -> KmsUnavailableError:
        # Only an OSError's own words are shown: another's text may quote what was decrypted.
        reason = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        return KmsUnavailableError(
            f"the embedded KMS cannot use its file {self._file} ({reason})",
            subject=f"file {self._file}",
            next_step="put the file back from its backup, and check its permissions and its volume's room",
        )


def _derive(header: dict[str, Any], passphrase: bytes) -> bytes:
    parameters = header["scrypt"]
    if header["format"] != _FORMAT or not 0 < parameters["n"] * parameters["r"] <= _LARGEST_SCRYPT * _SCRYPT["r"]:
        raise ValueError("not a key file of this release")
    salt = bytes.fromhex(parameters["salt"])
    return Scrypt(salt, _KEY_BYTES, parameters["n"], parameters["r"], parameters["p"]).derive(passphrase)


def _canonical(header: dict[str, Any]) -> bytes:
    return json.dumps(header, sort_keys=True, separators=(",", ":")).encode()


def _unreadable(file: Path, reason: str) -> ConfigError:
    return ConfigError(
        f"the embedded KMS cannot open {file}: {reason}",
        subject=f"file {file}",
        next_step="correct the passphrase, or put the file back from its backup",
    )

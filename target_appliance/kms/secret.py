"""Where drivers' secrets come from: a private file, or a systemd credential. Never from the configuration itself."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from common.errors import ConfigError
from target_appliance.config import EmbeddedSettings, Pkcs11Settings, TransitSettings

_SHORTEST_PASSPHRASE: Final = 12
_LONGEST: Final = 4096
_TOKEN: Final = re.compile(rb"[!-~]+")
_FOLDER_VARIABLE: Final = "CREDENTIALS_DIRECTORY"


def read_passphrase(settings: EmbeddedSettings, environment: Mapping[str, str] = os.environ) -> bytes:
    """The embedded driver's passphrase, without the line's end.

    Raises:
        ConfigError: it cannot be read, others may read it, or it is too short to protect anything.
    """
    source = settings.passphrase_file, settings.credential
    passphrase, path = _read("passphrase", source, "kms.embedded", environment)
    if len(passphrase) < _SHORTEST_PASSPHRASE:
        what = f"has fewer than {_SHORTEST_PASSPHRASE} characters"
        raise _refused("passphrase", path, what, "write a longer one before the first init")
    return passphrase


def read_pin(settings: Pkcs11Settings, environment: Mapping[str, str] = os.environ) -> str:
    """The PIN of a token's user, without the line's end.

    Raises:
        ConfigError: it cannot be read, others may read it, or it is not text.
    """
    pin, path = _read("PIN", (settings.pin_file, settings.credential), "kms.pkcs11", environment)
    try:
        return pin.decode()
    except UnicodeDecodeError:
        raise _refused("PIN", path, "is not text", "write the PIN there, and nothing else") from None


def read_token(settings: TransitSettings, environment: Mapping[str, str] = os.environ) -> str:
    """The token for OpenBao or Vault, without the line's end.

    Raises:
        ConfigError: it cannot be read, others may read it, or it cannot be one.
    """
    token, path = _read("token", (settings.token_file, settings.credential), "kms.transit", environment)
    if not _TOKEN.fullmatch(token):
        raise _refused("token", path, "holds no token", "write the token there, and nothing else")
    return token.decode("ascii")


def _read(
    what: str, source: tuple[Path | None, str | None], table: str, environment: Mapping[str, str]
) -> tuple[bytes, Path]:
    named, credential = source
    path = named or _credential(what, str(credential), table, environment)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read(_LONGEST).rstrip(b"\r\n")
    except OSError as error:
        raise _refused(what, path, f"cannot be read ({error.strerror})", "let this user read it") from None
    if stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO) and credential is None:
        raise _refused(what, path, "may be read by others", f"run chmod 600 {path}")
    if not secret:
        raise _refused(what, path, "is empty", f"write the {what} there")
    return secret, path


def _credential(what: str, name: str, table: str, environment: Mapping[str, str]) -> Path:
    folder = environment.get(_FOLDER_VARIABLE)
    if folder is None:
        raise ConfigError(
            f"credential {name} cannot be read, because systemd handed no credentials over",
            subject=f"config {table}.credential",
            next_step=f"add LoadCredential={name}:PATH to the unit, or name a file that holds the {what}",
        )
    return Path(folder) / name


def _refused(what: str, path: Path, reason: str, next_step: str) -> ConfigError:
    return ConfigError(f"the {what} file {path} {reason}", subject=f"file {path}", next_step=next_step)

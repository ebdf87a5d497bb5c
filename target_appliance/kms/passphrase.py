"""Where the embedded driver's passphrase comes from: a private file, or a systemd credential."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from common.errors import ConfigError
from target_appliance.config import EmbeddedSettings

_SHORTEST = 12
_FOLDER_VARIABLE = "CREDENTIALS_DIRECTORY"


def read_passphrase(settings: EmbeddedSettings, environment: Mapping[str, str] = os.environ) -> bytes:
    """The passphrase, without the line's end.

    Raises:
        ConfigError: it cannot be read, others may read it, or it is too short to protect anything.
    """
    path = _path(settings, environment)
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            passphrase = file.read(4096).rstrip(b"\r\n")
    except OSError as error:
        raise _refused(path, f"cannot be read ({error.strerror})", "put it there and let this user read it") from None
    if stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO) and settings.credential is None:
        raise _refused(path, "may be read by others", f"run chmod 600 {path}")
    if len(passphrase) < _SHORTEST:
        raise _refused(path, f"has fewer than {_SHORTEST} characters", "write a longer one before the first init")
    return passphrase


def _path(settings: EmbeddedSettings, environment: Mapping[str, str]) -> Path:
    if settings.passphrase_file is not None:
        return settings.passphrase_file
    folder = environment.get(_FOLDER_VARIABLE)
    if folder is None:
        raise ConfigError(
            f"credential {settings.credential} cannot be read, because systemd handed no credentials over",
            subject="config kms.embedded.credential",
            next_step=f"add LoadCredential={settings.credential}:PATH to the unit, or name a passphrase_file",
        )
    return Path(folder) / str(settings.credential)


def _refused(path: Path, reason: str, next_step: str) -> ConfigError:
    return ConfigError(f"the passphrase file {path} {reason}", subject=f"file {path}", next_step=next_step)

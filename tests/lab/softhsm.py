"""A SoftHSM of this process: the library reads its configuration once, so there is one folder with two tokens."""

import functools
import os
import subprocess
import tempfile
from pathlib import Path

import pkcs11
from pkcs11 import Attribute, ObjectClass

PIN = "correct-horse-1"
LABEL = "keysapart"
OTHER_LABEL = "somebody else's"
_SO_PIN = "battery-staple-2"
_MODULES = (
    Path("/usr/lib/softhsm/libsofthsm2.so"),
    Path("/usr/lib64/pkcs11/libsofthsm2.so"),
    Path("/usr/local/lib/softhsm/libsofthsm2.so"),
)


class SoftHsm:
    """Two tokens with one PIN, and what an administrator does to keys of the first. Use ``of_process``."""

    def __init__(self, folder: Path) -> None:
        self.module = next(path for path in _MODULES if path.exists())
        (folder / "tokens").mkdir()
        configuration = folder / "softhsm2.conf"
        configuration.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
        os.environ["SOFTHSM2_CONF"] = str(configuration)
        for label in (LABEL, OTHER_LABEL):
            command = ["softhsm2-util", "--init-token", "--free", "--label", label, "--pin", PIN, "--so-pin", _SO_PIN]
            subprocess.run(command, check=True, capture_output=True)
        self.pin_file = folder / "pin"
        self.pin_file.write_text(PIN + "\n")
        self.pin_file.chmod(0o600)
        self.library = pkcs11.lib(str(self.module))

    def keys(self, kek_id: str):
        """The objects of this id, seen through a session of the administrator's."""
        token = self.library.get_token(token_label=LABEL)
        try:
            session = token.open(rw=True, user_pin=PIN)
        except pkcs11.UserAlreadyLoggedIn:
            session = token.open(rw=True)
        wanted = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.ID: bytes.fromhex(kek_id)}
        return list(session.get_objects(wanted))

    def deactivate(self, kek_id: str) -> None:
        """Forbid a key everything."""
        for key in self.keys(kek_id):
            key[Attribute.DECRYPT] = False
            key[Attribute.ENCRYPT] = False

    def destroy(self, kek_id: str) -> None:
        """Remove a key."""
        for key in self.keys(kek_id):
            key.destroy()


_folders = []


@functools.cache
def of_process() -> SoftHsm:
    """The one of this process, made at the first call."""
    _folders.append(tempfile.TemporaryDirectory(prefix="softhsm-"))
    return SoftHsm(Path(_folders[0].name))

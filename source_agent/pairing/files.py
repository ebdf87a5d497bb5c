"""The three files of ``[target]``: where they may be written, and all of them at once."""

import tempfile
from pathlib import Path

from cryptography import x509

from common.errors import AlreadyExistsError, ConfigError
from common.private_file import PRIVATE, PUBLIC, write_together
from common.tls import TlsFiles
from source_agent.pairing.enroll import Paired

_PRIVATE_FOLDER = 0o700


def require_room(files: TlsFiles, *, replace: bool) -> None:
    """Return if a pair can be written there; for before a token is spent. Makes the folders.

    Raises:
        AlreadyExistsError: there is a key, which may be the only copy of another agent's.
        ConfigError: a folder cannot be written to, or two of the files are one that may not be.
    """
    if files.ca in {files.key, files.certificate}:
        raise ConfigError(
            "ca_file is also named as another file", subject="config target", next_step="give it a file of its own"
        )
    if not replace and files.key.exists():
        raise AlreadyExistsError(
            f"{files.key} exists: this agent is paired already, or it is the only copy of another one's key",
            subject=f"file {files.key}",
            next_step="name other files under [target], or replace that agent's for good with --replace",
        )
    for folder in sorted({path.parent for path in (files.ca, files.certificate, files.key)}):
        try:
            folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ConfigError(
                f"{folder} cannot be written to ({error.strerror})",
                subject=f"folder {folder}",
                next_step="let the agent's user write there, or name other files under [target]",
            ) from error


def require_same_target(files: TlsFiles, authority_pem: bytes, *, replace: bool) -> None:
    """Return unless the CA file is another appliance's.

    Raises:
        AlreadyExistsError: it is.
    """
    if replace or not files.ca.exists():
        return
    try:
        known = x509.load_pem_x509_certificates(files.ca.read_bytes())
    except ValueError:
        known = []
    if x509.load_pem_x509_certificate(authority_pem) not in known:
        raise AlreadyExistsError(
            f"{files.ca} belongs to another appliance",
            subject=f"file {files.ca}",
            next_step="name another ca_file under [target], or replace it with --replace",
        )


def write(files: TlsFiles, paired: Paired) -> None:
    """Write the pair. The key's file comes last and holds the certificate, too, so that the two never disagree.

    Raises:
        OSError: nothing was replaced.
    """
    contents: dict[Path, tuple[bytes, int]] = {files.ca: (paired.ca_pem, PUBLIC)}
    contents[files.certificate] = (paired.certificate_pem, PUBLIC)
    contents.pop(files.key, None)
    contents[files.key] = (paired.key_pem + paired.certificate_pem, PRIVATE)
    write_together(contents)

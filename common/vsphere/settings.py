"""How to reach and trust a vCenter."""

import hashlib
import hmac
import http.client
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.errors import ConfigError, Fault

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class VCenterSettings:
    """Address, login and trust; exactly one of ``ca_file`` and ``certificate_sha256`` is given."""

    host: str
    port: int
    user: str
    password_file: Path
    """Its first line is read anew at every login and kept nowhere, so that it may be rotated."""
    ca_file: Path | None = None
    """PEM file of the authorities that may vouch for the vCenter; its host name is then checked too."""
    certificate_sha256: str | None = None
    """SHA-256 of the vCenter's own certificate, 64 hex digits, colons allowed; nothing else is checked then."""
    timeout_seconds: float = 30.0
    """Of each request and each connection attempt."""
    task_seconds: float = 6 * 3600.0
    """Longest wait for a task; consolidation of a busy disk may take hours."""

    side: Fault = Fault.SOURCE
    """The site that it stands in, and whose its failures are: SOURCE or TARGET."""

    def __post_init__(self) -> None:
        if (self.ca_file is None) == (self.certificate_sha256 is None):
            raise ConfigError(
                "the vCenter's certificate must be trusted in exactly one way",
                subject="vcenter",
                next_step="give either ca_file or certificate_sha256 in the [vcenter] section",
            )
        if self.certificate_sha256 is not None and not _SHA256.fullmatch(self.pin):
            raise ConfigError(
                "certificate_sha256 is not a SHA-256 fingerprint",
                subject="vcenter",
                next_step="give 64 hexadecimal digits, in pairs with colons if you like",
            )

    @property
    def pin(self) -> str:
        """The fingerprint in lower case without colons; empty when a CA file is used."""
        return (self.certificate_sha256 or "").replace(":", "").lower()

    @property
    def subject(self) -> str:
        """The vCenter in errors and logs."""
        return f"vcenter {self.host}:{self.port}"


def read_password(path: Path) -> str:
    """The password in the file's first line.

    Raises:
        ConfigError: the file cannot be read, or its first line is empty.
    """
    try:
        password = path.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the password file {path} cannot be read ({type(error).__name__})",
            subject="vcenter",
            next_step="check password_file in the [vcenter] section and the file's owner and mode",
        ) from error
    if not password:
        raise ConfigError(
            f"the password file {path} is empty", subject="vcenter", next_step="write the password on its first line"
        )
    return password


def tls_context(settings: VCenterSettings) -> ssl.SSLContext:
    """A context that verifies chain and host name; with a pin it verifies nothing, ``PinnedConnection`` does.

    Always our own: without one, pyVmomi switches verification off for loopback addresses.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.ca_file is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    try:
        context.load_verify_locations(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the CA file {settings.ca_file} cannot be used ({error})",
            subject="vcenter",
            next_step="point ca_file in the [vcenter] section to a PEM file of the vCenter's authority",
        ) from error
    return context


class PinnedConnection(http.client.HTTPSConnection):
    """HTTPS to a server whose certificate has a known SHA-256; checked before the first byte is sent."""

    def __init__(self, *args: Any, pin: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._pin = pin

    def connect(self) -> None:
        """Connect, and refuse any certificate but the pinned one."""
        super().connect()
        certificate = self.sock.getpeercert(binary_form=True)
        found = hashlib.sha256(certificate or b"").hexdigest()
        if not hmac.compare_digest(found, self._pin):
            self.close()
            raise ssl.SSLCertVerificationError(1, f"the certificate's SHA-256 is {found}, not the pinned one")

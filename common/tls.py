"""Certificate files of one side: loaded, checked against each other and the clock, before any connection is tried.

The key's file may hold the key's certificate, too: so both are replaced at once. Of the certificates that fit the key,
there and in the certificate's own file, the one that lasts longest counts.

gRPC reports a refused handshake as "Socket closed" whatever the reason. So what can be known beforehand is checked
here, and ``explain_refusal`` asks again with a handshake whose errors have words.
"""

import socket
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from common.address import split
from common.clock import Clock
from common.errors import CertificateError, KeysapartError, TargetUnavailableError

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True)
class TlsFiles:
    """Where one side keeps its trust and its identity; all PEM."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Identity:
    """The files' contents. Never log one: it holds the private key."""

    files: TlsFiles
    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes
    certificate: x509.Certificate
    chain_file: Path
    """Which of the files the certificate was found in."""

    @property
    def not_after(self) -> datetime:
        """End of the certificate's life."""
        return self.certificate.not_valid_after_utc

    @property
    def uris(self) -> tuple[str, ...]:
        """URI subject alternative names, as they stand in the certificate."""
        try:
            names = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return ()
        return tuple(names.get_values_for_type(x509.UniformResourceIdentifier))


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(
            f"the {what} {path} cannot be read ({error.strerror})",
            subject=f"file {path}",
            next_step="pair this agent with source-agent pair, or correct the configuration",
        ) from error


def load_identity(files: TlsFiles, clock: Clock) -> Identity:
    """Read and check the three files.

    Raises:
        CertificateError: one is missing or not PEM, key and certificate do not belong together, or the certificate
            is expired or not yet valid.
    """
    ca_pem = _read(files.ca, "CA file")
    key_pem = _read(files.key, "private key")
    try:
        x509.load_pem_x509_certificates(ca_pem)
        key = load_pem_private_key(key_pem, password=None)
        found = {files.key: key_pem} if _CERTIFICATE in key_pem else {}
        if not found or files.certificate.exists():
            found[files.certificate] = _read(files.certificate, "certificate")
        parsed = {path: x509.load_pem_x509_certificate(pem) for path, pem in found.items()}
    except (ValueError, TypeError) as error:
        raise CertificateError(
            f"{files.ca}, {files.certificate} or {files.key} is not the PEM it should be",
            subject=f"file {files.certificate}",
            next_step="restore the files from where they were issued",
        ) from error
    mine = key.public_key()
    fitting = [path for path, certificate in parsed.items() if certificate.public_key() == mine]
    if not fitting:
        raise CertificateError(
            f"{files.key} is not the key of {files.certificate}",
            subject=f"file {files.key}",
            next_step="put the key back that was made for this certificate",
        )
    chosen = max(fitting, key=lambda path: parsed[path].not_valid_after_utc)
    check_validity(parsed[chosen], f"the certificate {chosen}", clock)
    return Identity(files, ca_pem, found[chosen], key_pem, parsed[chosen], chosen)


def check_validity(certificate: x509.Certificate, what: str, clock: Clock) -> None:
    """Raise CertificateError unless ``certificate``, called ``what``, is valid now."""
    now = clock.now()
    if now > certificate.not_valid_after_utc:
        raise CertificateError(
            f"{what} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC",
            subject=what,
            next_step="have the target's operator make a pairing line with target-appliance agents add, and pair again",
        )
    if now < certificate.not_valid_before_utc:
        raise CertificateError(
            f"{what} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
            subject=what,
            next_step="check this machine's clock",
        )


def channel_credentials(identity: Identity) -> grpc.ChannelCredentials:
    """What a gRPC client needs for mutual TLS."""
    return grpc.ssl_channel_credentials(identity.ca_pem, identity.key_pem, identity.certificate_pem)


def explain_refusal(
    address: str, identity: Identity, server_name: str | None = None, *, timeout_seconds: float = 5.0
) -> KeysapartError | None:
    """Why the server at ``address`` does not talk to us, found by a TLS handshake; None when that succeeds.

    ``server_name`` is what its certificate must bear, when that is not the address's host.
    """
    subject = f"target {address}"
    host, port = split(address)
    context = ssl.create_default_context(cadata=identity.ca_pem.decode())
    context.load_cert_chain(identity.chain_file, identity.files.key)
    context.set_alpn_protocols(["h2"])
    try:
        with (
            socket.create_connection((host, port), timeout=timeout_seconds) as plain,
            context.wrap_socket(plain, server_hostname=server_name or host) as secure,
        ):
            # In TLS 1.3 the server judges our certificate after our side of the handshake is over: its verdict
            # arrives with the first read. gRPC servers hang up without an alert; one that accepts us speaks first.
            secure.settimeout(timeout_seconds)
            if not _first_byte(secure):
                return _refused(address, "it hangs up on it")
    except ssl.SSLCertVerificationError as error:
        return CertificateError(
            f"the target at {address} shows a certificate that {identity.files.ca} does not vouch for"
            f" ({error.verify_message})",
            subject=subject,
            next_step="check the address, and that the CA file is the one this target's operator handed over",
        )
    except ssl.SSLError as error:
        if "ALERT" in (error.reason or ""):  # the server's word on what we showed
            return _refused(address, str(error.reason))
        return TargetUnavailableError(
            f"what answers at {address} hangs up, or is no target ({error.reason or error})",
            subject=subject,
            next_step="check the address, that target-appliance serves there, and any proxy that stands before it",
        )
    except OSError as error:
        why = "it takes too long" if isinstance(error, TimeoutError) else error.strerror or str(error)
        return TargetUnavailableError(
            f"the target at {address} does not answer ({why})",
            subject=subject,
            next_step="check that target-appliance serves there and that the network lets the agent through",
        )
    return None


def _first_byte(secure: ssl.SSLSocket) -> bytes:
    try:
        return secure.recv(1)
    except (ConnectionResetError, ssl.SSLEOFError):
        return b""


def _refused(address: str, how: str) -> CertificateError:
    return CertificateError(
        f"the target at {address} refuses this agent's certificate ({how})",
        subject=f"target {address}",
        next_step="have its operator make a pairing line with target-appliance agents add, and pair again",
    )

"""Who answers at an enrolment port: the authority that the pairing line names, found before a secret is sent.

The agent knows only the authority's fingerprint. So the first handshake verifies nothing and sends nothing; it takes
what the appliance shows, in which a certificate must have that fingerprint. The second one verifies against it.
"""

import socket
import ssl
import sys
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from common.address import HostPort, split
from common.errors import CertificateError, TargetUnavailableError

_SECONDS: Final = 10.0
_MOST_SHOWN: Final = 8


def authority_at(address: HostPort, fingerprint: bytes, server_name: str | None) -> bytes:
    """PEM of the authority with ``fingerprint`` (SHA-256 of its certificate) that vouches for who answers.

    Raises:
        CertificateError: another authority does, or not for this name or time: somebody may stand in between.
        TargetUnavailableError: nobody answers.
    """
    shown = _handshake(address, _trusting_nobody(), server_name)
    for der in shown[:_MOST_SHOWN]:
        try:
            certificate = x509.load_der_x509_certificate(der)
        except ValueError:
            continue
        if certificate.fingerprint(hashes.SHA256()) == fingerprint:
            break
    else:
        raise CertificateError(
            f"what answers at {address} is not the appliance that made the pairing line: none of its certificates has"
            f" the fingerprint {fingerprint.hex()}",
            subject=f"target {address}",
            next_step="do not pair; check the address and whether somebody stands in between, then ask for a new line",
        )
    pem = certificate.public_bytes(Encoding.PEM)
    context = ssl.create_default_context(cadata=pem.decode("ascii"))
    context.set_alpn_protocols(["h2"])
    _handshake(address, context, server_name)
    return pem


def _trusting_nobody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the fingerprint decides, and nothing is sent on this connection
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    return context


def _handshake(address: HostPort, context: ssl.SSLContext, server_name: str | None) -> list[bytes]:
    """Certificates that the other side shows, DER, its own first."""
    host, port = split(address)
    try:
        with (
            socket.create_connection((host, port), timeout=_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=server_name or host) as secure,
        ):
            return _chain(secure)
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(
            f"the appliance at {address} shows a certificate that does not count ({error.verify_message})",
            subject=f"target {address}",
            next_step="check the address in the line, that listen.names holds its host, and both machines' clocks",
        ) from error
    except OSError as error:
        why = "it takes too long" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise TargetUnavailableError(
            f"nobody enrols at {address} ({why})",
            subject=f"target {address}",
            next_step="check that target-appliance serves with listen.enrollment and that the network lets the agent"
            " through; the pairing line was not used",
        ) from error


def _chain(secure: ssl.SSLSocket) -> list[bytes]:
    if sys.version_info >= (3, 13):
        return list(secure.get_unverified_chain())
    # The same call, before it was documented; pip's truststore relies on it, too.
    inner: Any = secure._sslobj  # type: ignore[attr-defined,unused-ignore]  # noqa: SLF001
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in inner.get_unverified_chain() or ()]

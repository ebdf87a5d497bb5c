"""The trade: a one-time token and a request for a certificate. What comes back is checked before it is believed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common.address import HostPort
from common.errors import CertificateError, KeysapartError, TargetUnavailableError
from common.pairing_line import PairingLine
from common.status_map import from_rpc_error
from common.wire.v1 import enrollment_pb2 as wire
from common.wire.v1 import enrollment_pb2_grpc as services
from source_agent.pairing.presented import authority_at

_SECONDS: Final = 30.0
_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.max_receive_message_length", 64 << 10),
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Paired:
    """What an agent needs, all PEM. Never log one: it holds the private key."""

    key_pem: bytes
    certificate_pem: bytes
    ca_pem: bytes

    def __repr__(self) -> str:
        return "Paired(key and certificates)"


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Unencrypted PKCS #8 PEM, for a file of mode 0600."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def request_for(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A request (PKCS #10, DER) that names nobody: the appliance says who this is."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def enroll(line: PairingLine, server_name: str | None, approve: Callable[[bytes], None]) -> Paired:
    """Trade the line for a certificate. The token is sent only to who proves to be the appliance of the line.

    Args:
        line: the pairing line.
        server_name: what the appliance's certificate must bear, when it is not the host of the line's address.
        approve: told the authority (PEM) before the token is sent; what it raises ends the pairing.

    Raises:
        CertificateError: somebody else answers, or the answer is not what it should be.
        AccessDeniedError: the line does not count (any more).
        TargetUnavailableError: no answer; the line may be used up.
    """
    ca_pem = authority_at(line.address, line.fingerprint, server_name)
    approve(ca_pem)
    key = new_key()
    override = [("grpc.ssl_target_name_override", server_name)] if server_name else []
    credentials = grpc.ssl_channel_credentials(ca_pem)
    with grpc.secure_channel(line.address, credentials, options=[*_OPTIONS, *override]) as channel:
        stub = services.EnrollmentStub(channel)
        try:
            answer = stub.Enroll(wire.EnrollRequest(token=line.token, request=request_for(key)), timeout=_SECONDS)
        except grpc.RpcError as error:
            raise _explained(error, line.address) from None
    check_answer(key, answer.certificate, answer.authorities, line.address)
    return Paired(key_pem(key), answer.certificate, answer.authorities)


def check_answer(key: ec.EllipticCurvePrivateKey, certificate: bytes, authorities: bytes, address: HostPort) -> None:
    """Return if ``certificate`` is for ``key`` and one of ``authorities`` issued it.

    Raises:
        CertificateError: it is not.
    """
    try:
        leaf = x509.load_pem_x509_certificate(certificate)
        roots = x509.load_pem_x509_certificates(authorities)
    except ValueError:
        raise _wrong(address, "is no certificate") from None
    if leaf.public_key() != key.public_key():
        raise _wrong(address, "is for another key")
    if not any(issued_by(leaf, root) for root in roots):
        raise _wrong(address, "is not by an authority that came with it")


def issued_by(leaf: x509.Certificate, root: x509.Certificate) -> bool:
    """Whether ``root`` signed ``leaf``."""
    try:
        leaf.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _explained(error: grpc.RpcError, address: HostPort) -> KeysapartError:
    found = from_rpc_error(error, subject=f"target {address}")
    if isinstance(found, TargetUnavailableError):
        return TargetUnavailableError(
            f"the appliance at {address} gave no answer, and may have used the line up ({found.message})",
            subject=found.subject,
            next_step="pair again with the same line; if it is refused then, ask the target's operator for a new one",
        )
    return found


def _wrong(address: HostPort, how: str) -> CertificateError:
    return CertificateError(
        f"the certificate that {address} gave {how}; nothing was written",
        subject=f"target {address}",
        next_step="report it to the target's operator, and ask for a new pairing line",
    )

"""Documents that the appliance signs (evidence, heads of the audit log, receipts), and how anybody checks one offline.

A document is one line of canonical JSON: ``kind``, ``time``, ``body``, ``certificates`` (the signer's, then the
authority's, PEM), ``algorithm`` and ``signature``, which covers all the other members. Who knows the authority's
fingerprint needs nothing else.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from common.clock import Clock
from common.errors import CertificateError, DamagedError
from target_appliance.identity.authority import Authority
from target_appliance.identity.certificates import DOCUMENT_SIGNING
from target_appliance.seal.selfcheck import canonical

ALGORITHM: Final = "ECDSA-P256-SHA256"
MOST_BYTES: Final = 64 << 20
"""Largest document that is read."""
_PREFIX: Final = b"keysapart signed document 1\n"
"""Keeps these signatures from counting anywhere else."""
_SHOWN: Final = "%Y-%m-%dT%H:%M:%SZ"
_MEMBERS: Final = {"kind", "time", "body", "certificates", "algorithm", "signature"}


class Signer:
    """The appliance's signing key, certified by its authority for documents only."""

    def __init__(self, authority: Authority, clock: Clock) -> None:
        issued = authority.signer()
        key = serialization.load_pem_private_key(issued.key_pem, password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("the signing key is not an EC key")
        self._key = key
        self._certificates = [issued.certificate_pem.decode("ascii"), authority.ca_pem.decode("ascii")]
        self._clock = clock

    def sign(self, kind: str, body: Mapping[str, Any]) -> bytes:
        """The whole document, ready to be written to a file. ``body`` must be JSON's own types."""
        document = {
            "kind": kind,
            "time": self._clock.now().strftime(_SHOWN),
            "body": body,
            "certificates": self._certificates,
            "algorithm": ALGORITHM,
        }
        signature = self._key.sign(_PREFIX + canonical(document), ec.ECDSA(hashes.SHA256()))
        return canonical({**document, "signature": signature.hex()}) + b"\n"


@dataclass(frozen=True, slots=True)
class Signed:
    """A document whose signature holds."""

    kind: str
    time: datetime
    body: dict[str, Any]
    signer: x509.Certificate
    authority: x509.Certificate


def check(content: bytes, kind: str, fingerprints: Collection[str]) -> Signed:
    """The document in ``content``, which an authority with one of ``fingerprints`` vouches for.

    Args:
        content: the file.
        kind: what it should be.
        fingerprints: of the authorities that count, as ``fingerprint_of`` makes them.

    Raises:
        DamagedError: it is not a document of this kind, or not as it was signed.
        CertificateError: another authority's, or the signer was not allowed to sign it then.
    """
    document = _parse(content, kind)
    try:
        signer, authority = (x509.load_pem_x509_certificate(pem.encode("ascii")) for pem in document["certificates"])
        time = datetime.strptime(document["time"], _SHOWN).replace(tzinfo=UTC)
        signature = bytes.fromhex(document.pop("signature"))
    except (ValueError, TypeError, AttributeError):
        raise _altered(kind, "its certificates, time or signature are malformed") from None
    if fingerprint_of(authority) not in fingerprints:
        raise _untrusted(kind, f"another authority vouches for it, with fingerprint {fingerprint_of(authority)}")
    key = signer.public_key() if _may_sign(signer, authority) else None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _untrusted(kind, "the authority did not let its signer sign documents")
    for certificate in (signer, authority):
        if not certificate.not_valid_before_utc <= time <= certificate.not_valid_after_utc:
            raise _untrusted(kind, "it was signed outside of its certificates' lives")
    try:
        key.verify(signature, _PREFIX + canonical(document), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise _altered(kind, "its signature does not fit") from None
    return Signed(kind, time, document["body"], signer, authority)


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate, in lower-case hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def _parse(content: bytes, kind: str) -> dict[str, Any]:
    if len(content) > MOST_BYTES:
        raise _altered(kind, "it is too large")
    try:
        document = json.loads(content)
        same = canonical(document) + b"\n" == content
    except (ValueError, RecursionError):
        raise _altered(kind, "it is not JSON") from None
    # Two texts of one meaning would let bytes change that nobody vouched for.
    if not same:
        raise _altered(kind, "it is not in canonical form")
    if not isinstance(document, dict) or set(document) != _MEMBERS or not isinstance(document["body"], dict):
        raise _altered(kind, "it is no signed document")
    if document["kind"] != kind or document["algorithm"] != ALGORITHM:
        raise _altered(kind, "it is a document of another kind")
    return document


def _may_sign(signer: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        signer.verify_directly_issued_by(authority)
        limits = signer.extensions.get_extension_for_class(x509.BasicConstraints).value
        purposes = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        issuer = authority.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm, x509.ExtensionNotFound):
        return False
    return issuer.ca and not limits.ca and list(purposes) == [DOCUMENT_SIGNING]


def _altered(kind: str, why: str) -> DamagedError:
    return DamagedError(
        f"this is no authentic {kind}: {why}", subject=kind, next_step="get it anew from where it was made"
    )


def _untrusted(kind: str, why: str) -> CertificateError:
    return CertificateError(
        f"this {kind} is not to be trusted: {why}",
        subject=kind,
        next_step="check that the authority's certificate or fingerprint is the appliance's that it should be from",
    )

"""What the appliance's own certificates look like. Pure: keys, names and times in, certificates out.

ECDSA P-256 throughout. Start of validity is set back a little, so that a clock that lags does not refuse a new one.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

CA_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=365)
_SET_BACK = timedelta(minutes=5)
DOCUMENT_SIGNING = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.36")
"""RFC 9336; a certificate for it lets nobody in anywhere."""

_LEAF_USAGE = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
_CA_USAGE = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its private key, both PEM. The key is never printed."""

    certificate_pem: bytes
    key_pem: bytes

    def __repr__(self) -> str:
        return "Issued(certificate and key)"

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate, parsed."""
        return x509.load_pem_x509_certificate(self.certificate_pem)


def new_key() -> ec.EllipticCurvePrivateKey:
    """A fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key as unencrypted PKCS #8 PEM, for files of mode 0600."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def make_authority(trust_domain: str, now: datetime) -> Issued:
    """A self-signed certificate authority of ``trust_domain`` that signs leaves only."""
    key = new_key()
    name = _name("Keysapart authority", trust_domain)
    own_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        _builder(key.public_key(), name, now, CA_LIFE)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_CA_USAGE, critical=True)
        .add_extension(own_id, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own_id), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{trust_domain}")]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    return Issued(certificate.public_bytes(serialization.Encoding.PEM), key_pem(key))


def cross_sign(old: Issued, new: x509.Certificate) -> x509.Certificate:
    """The authority ``new`` again, signed by ``old``: whoever trusts the old one believes it."""
    issuer = old.certificate
    life = min(new.not_valid_after_utc, issuer.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(new.subject)
        .issuer_name(issuer.subject)
        .public_key(new.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(new.not_valid_before_utc)
        .not_valid_after(life)
    )
    own_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    for extension in new.extensions:
        if not isinstance(extension.value, x509.AuthorityKeyIdentifier):
            builder = builder.add_extension(extension.value, extension.critical)
    theirs = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own_id)
    return builder.add_extension(theirs, critical=False).sign(_signing_key(old), hashes.SHA256())


def pem_of(certificate: x509.Certificate) -> bytes:
    """The certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def make_server(authority: Issued, names: Sequence[str], now: datetime) -> Issued:
    """A server certificate for ``names``: host names and IP addresses."""
    alternatives = [general_name(name) for name in names]
    return _with_key(authority, "Keysapart appliance", alternatives, [ExtendedKeyUsageOID.SERVER_AUTH], now)


def certify_agent(authority: Issued, uri: str, key: PublicKey, now: datetime) -> bytes:
    """PEM of a client certificate for somebody else's ``key``, whose one name is ``uri``.

    Both purposes are stated, because the X509-SVID rules demand them together.
    """
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    return _make_leaf(authority, "Keysapart agent", [x509.UniformResourceIdentifier(uri)], purposes, now, key)


def make_signer(authority: Issued, uri: str, now: datetime) -> Issued:
    """A certificate for signing documents, and for nothing else."""
    return _with_key(authority, "Keysapart signer", [x509.UniformResourceIdentifier(uri)], [DOCUMENT_SIGNING], now)


def general_name(name: str) -> x509.GeneralName:
    """``name`` as an IP address where it is one, else as a DNS name."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _with_key(
    authority: Issued,
    common_name: str,
    alternatives: Sequence[x509.GeneralName],
    purposes: Sequence[x509.ObjectIdentifier],
    now: datetime,
) -> Issued:
    key = new_key()
    return Issued(_make_leaf(authority, common_name, alternatives, purposes, now, key.public_key()), key_pem(key))


def _make_leaf(  # noqa: PLR0917  a certificate's parts
    authority: Issued,
    common_name: str,
    alternatives: Sequence[x509.GeneralName],
    purposes: Sequence[x509.ObjectIdentifier],
    now: datetime,
    key: PublicKey,
) -> bytes:
    ca = authority.certificate
    certificate = (
        _builder(key, _name(common_name), now, LEAF_LIFE)
        .issuer_name(ca.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_LEAF_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(
                ca.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
            ),
            critical=False,
        )
        .sign(_signing_key(authority), hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _signing_key(authority: Issued) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(authority.key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("the authority's key is not an EC key")
    return key


def _builder(key: PublicKey, subject: x509.Name, now: datetime, life: timedelta) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _SET_BACK)
        .not_valid_after(now + life)
    )


def _name(common_name: str, organisation: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    if organisation is not None:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, organisation[:64]))
    return x509.Name(parts)

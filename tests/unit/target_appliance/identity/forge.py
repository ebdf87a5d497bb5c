"""Certificates with any mistake one may want."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from target_appliance.identity.certificates import Issued

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


def uri(text: str) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(text)


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def rsa_1024() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)  # noqa: S505  weak on purpose


def rsa_2048() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def k1() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256K1())


def ed() -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.generate()


def usage(**wanted: bool) -> x509.KeyUsage:
    flags = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    return x509.KeyUsage(**(flags | wanted))


@dataclass(frozen=True)
class Signer:
    """An authority: its certificate and key."""

    certificate: x509.Certificate
    key: CertificateIssuerPrivateKeyTypes

    @classmethod
    def of(cls, issued: Issued) -> "Signer":
        return cls(issued.certificate, serialization.load_pem_private_key(issued.key_pem, None))


@dataclass(frozen=True)
class Recipe:
    """A good agent certificate; ``but`` changes one thing."""

    signer: Signer
    now: datetime
    names: Sequence[x509.GeneralName] | None
    make_key: Callable[[], object] = p256
    starts: timedelta = timedelta(minutes=-5)
    lasts: timedelta = timedelta(days=1)
    constraints: x509.BasicConstraints | None = field(default_factory=lambda: x509.BasicConstraints(False, None))
    usage: x509.KeyUsage | None = field(default_factory=lambda: usage(digital_signature=True))
    usage_critical: bool = True
    purposes: Sequence[x509.ObjectIdentifier] | None = (CLIENT, SERVER)
    self_signed: bool = False

    def but(self, **changes: object) -> "Recipe":
        return replace(self, **changes)

    def sign(self) -> tuple[x509.Certificate, object]:
        key = self.make_key()
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "forged agent")])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if self.self_signed else self.signer.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + self.starts)
            .not_valid_after(self.now + self.starts + self.lasts)
        )
        if self.constraints is not None:
            builder = builder.add_extension(self.constraints, critical=True)
        if self.usage is not None:
            builder = builder.add_extension(self.usage, critical=self.usage_critical)
        if self.purposes is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(self.purposes), critical=False)
        if self.names is not None:
            builder = builder.add_extension(x509.SubjectAlternativeName(self.names), critical=False)
        return builder.sign(key if self.self_signed else self.signer.key, hashes.SHA256()), key

    def pem(self) -> bytes:
        return self.sign()[0].public_bytes(serialization.Encoding.PEM)


def negative_serial(pem: bytes) -> bytes:
    """The same certificate with a serial number whose sign bit is set; nobody signed that."""
    certificate = x509.load_pem_x509_certificate(pem)
    number = certificate.serial_number.to_bytes((certificate.serial_number.bit_length() + 8) // 8, "big")
    der = certificate.public_bytes(serialization.Encoding.DER)
    return der.replace(number, bytes([number[0] | 0x80]) + number[1:], 1)


def flip_in_signature(pem: bytes) -> bytes:
    der = bytearray(x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    return bytes(der)

"""Certificate authorities of the lab: one for each party that must not be able to pose as another."""

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

LOOPBACK = ("localhost", "127.0.0.1")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, as files (PEM)."""

    certificate_file: Path
    key_file: Path


class Authority:
    """A certificate authority that lives in memory and leaves only its certificate on disk."""

    def __init__(self, name: str, certificate_file: Path) -> None:
        self.certificate_file = certificate_file
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _template(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        write_private(certificate_file, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)

    def issue_server(self, base: Path, names: tuple[str, ...] = LOOPBACK, days: int = 365) -> Issued:
        """A server certificate for ``names`` (host names and addresses) as ``<base>.crt`` and ``<base>.key``.

        It lasts ``days``; a negative number makes one that expired that many days ago.
        """
        return self._issue(base, names[0], names, ExtendedKeyUsageOID.SERVER_AUTH, days)

    def issue_client(self, base: Path, common_name: str) -> Issued:
        """A client certificate for ``common_name`` as ``<base>.crt`` and ``<base>.key``."""
        return self._issue(base, common_name, (), ExtendedKeyUsageOID.CLIENT_AUTH)

    def _issue(
        self, base: Path, common_name: str, names: tuple[str, ...], usage: x509.ObjectIdentifier, days: int = 365
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        builder = (
            _template(subject, self._name, key.public_key(), days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        issued = Issued(base.with_suffix(".crt"), base.with_suffix(".key"))
        certificate = builder.sign(self._key, hashes.SHA256())
        write_private(issued.certificate_file, certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)
        write_private(
            issued.key_file,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
        return issued


def write_private(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write ``data`` under a mode that holds from the first byte on, replacing an older file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(mode=mode)
    path.write_bytes(data)


def _template(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int = 365
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=max(0, -days), hours=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        key_cert_sign=ca,
        crl_sign=ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)

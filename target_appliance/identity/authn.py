"""Who a client certificate is. Pure: bytes and a time in, an identity or a reason out.

TLS has checked chain, signature and dates before; everything is checked here again, because a connection outlives the
moment of its handshake, and because TLS knows nothing of the rules for an identity (SPIFFE X509-SVID, section 4).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from common.errors import CertificateError
from common.ids import AgentId, TenantId
from target_appliance.identity.foreign import Foreign
from target_appliance.identity.names import Role, parse_uri, refused
from target_appliance.identity.strength import weakness

_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)


@dataclass(frozen=True, slots=True)
class Trust:
    """Whose certificates count: a trust domain and its authorities (two during a change of authority)."""

    domain: str
    roots: tuple[x509.Certificate, ...]
    foreign: tuple[Foreign, ...] = ()
    """Tenants' own authorities."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the other side of a connection has proved to be."""

    tenant: TenantId
    agent: AgentId
    serial: int
    not_after: datetime
    role: Role = Role.AGENT
    foreign: bool = False
    """The tenant's own authority vouches for it, not the appliance's."""


def identify(certificate: bytes, trust: Trust, now: datetime) -> Identity:
    """The identity that ``certificate`` (one PEM or DER leaf) proves at ``now``.

    Raises:
        CertificateError: it proves none; the message says which rule it breaks.
    """
    leaf = _parse(certificate)
    try:
        for rule in _RULES:
            rule(leaf, trust, now)
        uri = _only_uri(leaf)
    except CertificateError:
        raise
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise refused(f"it is malformed ({error})") from None
    foreign = _voucher(leaf, trust)
    role, tenant, agent = parse_uri(uri, trust.domain if foreign is None else foreign.domain)
    if foreign is not None and tenant != foreign.tenant:
        raise refused(f"the authority of tenant {foreign.tenant} issued it, which vouches for no other tenant")
    return Identity(tenant, agent, leaf.serial_number, leaf.not_valid_after_utc, role, foreign is not None)


def _parse(certificate: bytes) -> x509.Certificate:
    try:
        if certificate.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_certificate(certificate)
        return x509.load_der_x509_certificate(certificate)
    except (ValueError, x509.InvalidVersion):
        raise refused("it is not an X.509 certificate" if certificate else "there is none") from None


def _numbered(leaf: x509.Certificate, _trust: Trust, _now: datetime) -> None:
    if leaf.serial_number <= 0:
        raise refused("its serial number is not positive")


def _strong(leaf: x509.Certificate, _trust: Trust, _now: datetime) -> None:
    if not isinstance(leaf.signature_hash_algorithm, _HASHES):
        raise refused("it is signed with a hash weaker than SHA-256")
    weak = weakness(leaf.public_key())
    if weak is not None:
        raise refused(f"its {weak}")


def _issued_by_somebody(leaf: x509.Certificate, trust: Trust, now: datetime) -> None:
    roots = [*trust.roots, *(root for foreign in trust.foreign for root in foreign.roots)]
    if not any(_issued(leaf, root) and now <= root.not_valid_after_utc for root in roots):
        raise refused("the appliance's certificate authority did not issue it")


def _voucher(leaf: x509.Certificate, trust: Trust) -> Foreign | None:
    """Whose authority issued the certificate, which one of them did; None for the appliance's own."""
    if any(_issued(leaf, root) for root in trust.roots):
        return None
    return next(foreign for foreign in trust.foreign if any(_issued(leaf, root) for root in foreign.roots))


def _issued(leaf: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        leaf.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _in_time(leaf: x509.Certificate, _trust: Trust, now: datetime) -> None:
    if now < leaf.not_valid_before_utc:
        raise refused(f"it is valid only from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on")
    if now > leaf.not_valid_after_utc:
        raise refused(f"it expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")


def _leaf_only(leaf: x509.Certificate, _trust: Trust, _now: datetime) -> None:
    try:
        if leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise refused("it is a certificate authority's, not an agent's")
    except x509.ExtensionNotFound:
        # RFC 5280, 4.2.1.9: without the extension the key may not sign certificates; step-ca leaves it out.
        return


def _usage(leaf: x509.Certificate, _trust: Trust, _now: datetime) -> None:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        raise refused("it states no key usage") from None
    if not extension.critical or not extension.value.digital_signature:
        raise refused("its key usage is not a critical digitalSignature")
    if extension.value.key_cert_sign or extension.value.crl_sign:
        raise refused("its key may sign certificates")
    try:
        purposes = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH} <= set(purposes):
        raise refused("its extended key usage lacks clientAuth or serverAuth")


_Rule = Callable[[x509.Certificate, Trust, datetime], None]
_RULES: tuple[_Rule, ...] = (_numbered, _strong, _issued_by_somebody, _in_time, _leaf_only, _usage)


def _only_uri(leaf: x509.Certificate) -> str:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise refused("it bears no URI name") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise refused(f"it bears {len(uris)} URI names instead of one")
    return uris[0]

"""The authority and its predecessors as one file: it is replaced whole when a new authority takes over. Pure.

The file holds the private key, the authority's own certificate, the predecessors' certificates that still count, and
for each takeover the new authority's certificate signed by the old one. That one has the same names as both and so is
self-issued (RFC 4210's "new with old"): it costs no path length, and who trusts the old authority believes the new.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from target_appliance.identity.certificates import Issued, cross_sign, make_authority, pem_of

_MOST = 3
"""Authorities that may count at once."""


@dataclass(frozen=True, slots=True)
class Authorities:
    """Which authority issues, and which ones count beside it."""

    ca: Issued
    earlier: tuple[x509.Certificate, ...] = ()
    """Self-signed, newest first."""
    crosses: tuple[x509.Certificate, ...] = ()
    """Each later authority signed by the one before, newest first."""

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        """All that count."""
        return (self.ca.certificate, *self.earlier)

    @property
    def bundle_pem(self) -> bytes:
        """What an agent is to trust."""
        return b"".join(map(pem_of, self.roots))

    @property
    def shown_pem(self) -> bytes:
        """What goes behind the server's certificate. The crosses first: else who trusts an old one stops at the new."""
        return b"".join(map(pem_of, (*self.crosses, *self.roots)))

    @property
    def full(self) -> bool:
        """There is no room for another one."""
        return len(self.roots) >= _MOST

    def to_pem(self) -> bytes:
        """The file."""
        count = b"%d authorities\n" % len(self.roots)
        return count + self.ca.key_pem + self.ca.certificate_pem + b"".join(map(pem_of, (*self.earlier, *self.crosses)))

    def succeeded(self, trust_domain: str, now: datetime) -> "Authorities":
        """A fresh authority in place of this one, which goes on counting."""
        new = make_authority(trust_domain, now)
        cross = cross_sign(self.ca, new.certificate)
        return Authorities(new, self.roots, (cross, *self.crosses))

    def alone(self) -> "Authorities":
        """The same authority without its predecessors."""
        return replace(self, earlier=(), crosses=())


def parse(pem: bytes) -> Authorities:
    """What ``to_pem`` made.

    Raises:
        ValueError: it is not that.
    """
    key = serialization.load_pem_private_key(pem, password=None)
    first, *others = x509.load_pem_x509_certificates(pem)
    if key.public_key() != first.public_key():
        raise ValueError("its key does not belong to its certificate")
    begin, end = b"-----BEGIN PRIVATE KEY-----", b"-----END PRIVATE KEY-----\n"
    key_pem = pem[pem.index(begin) : pem.index(end) + len(end)]
    earlier = tuple(one for one in others if _self_signed(one))
    # A file that was cut between two certificates would otherwise read as one with fewer.
    if (pem.startswith(begin) and others) or not pem.startswith((begin, b"%d authorities\n" % (1 + len(earlier)))):
        raise ValueError("it is cut, or somebody changed it")
    return Authorities(Issued(pem_of(first), key_pem), earlier, tuple(one for one in others if one not in earlier))


def _self_signed(certificate: x509.Certificate) -> bool:
    own = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    issuer = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    return own == issuer

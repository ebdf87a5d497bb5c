"""Authorities of tenants' own: each vouches for callers of the one tenant that it was given for, and for nobody else.

A file for each such tenant, ``<tenant>.json``: the trust domain of its names, and the certificates.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from common.errors import ConfigError, InvalidInputError, PreconditionError
from common.ids import TenantId, parse_tenant
from common.private_file import sync_folder, write_file
from target_appliance.identity.certificates import pem_of
from target_appliance.identity.strength import weakness

_MOST: Final = 8
"""Certificates in a bundle: roots and intermediates."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """What a tenant's own authority may vouch for."""

    tenant: TenantId
    domain: str
    """Trust domain of the names in its certificates."""
    roots: tuple[x509.Certificate, ...]


def parse_bundle(pem: bytes, now: datetime) -> tuple[x509.Certificate, ...]:
    """The authorities in a bundle.

    Raises:
        InvalidInputError: there is none, one of them is no authority, or it is weak or over.
    """
    try:
        found = tuple(x509.load_pem_x509_certificates(pem))
    except ValueError:
        raise _refused("holds no certificate in PEM") from None
    if len(found) > _MOST:
        raise _refused(f"holds more than {_MOST} certificates")
    for certificate in found:
        name = certificate.subject.rfc4514_string()[:80]
        try:
            limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
            usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
        except (ValueError, x509.ExtensionNotFound):
            raise _refused(f"holds {name!a}, which is no certificate authority") from None
        if not limits.ca or not usage.key_cert_sign:
            raise _refused(f"holds {name!a}, which is no certificate authority")
        weak = weakness(certificate.public_key())
        if weak is not None:
            raise _refused(f"holds {name!a}, whose {weak}")
        if now > certificate.not_valid_after_utc:
            raise _refused(f"holds {name!a}, which expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    return found


def require_own(added: Foreign, known: Iterable[Foreign], ours: Iterable[x509.Certificate]) -> None:
    """Return if no other tenant, nor the appliance, has one of these authorities.

    Raises:
        PreconditionError: one vouches for somebody else already.
    """
    keys = {_key(root) for root in added.roots}
    if any(_key(root) in keys for root in ours):
        raise PreconditionError(
            "the bundle holds the appliance's own authority",
            subject=f"tenant {added.tenant}",
            next_step="give the bundle of the tenant's authority",
        )
    for other in known:
        if other.tenant != added.tenant and any(_key(root) in keys for root in other.roots):
            raise PreconditionError(
                f"the bundle holds an authority that vouches for tenant {other.tenant}",
                subject=f"tenant {added.tenant}",
                next_step="give each tenant an authority of its own: one could sign the other's names",
            )


def read(folder: Path) -> tuple[Foreign, ...]:
    """All that were given.

    Raises:
        ConfigError: a file is not what was written.
    """
    return tuple(_parsed(path) for path in sorted(folder.glob("*.json")))


def write(folder: Path, added: Foreign) -> None:
    """Let ``added`` count, in place of what its tenant had."""
    folder.mkdir(mode=0o700, exist_ok=True)
    pem = b"".join(map(pem_of, added.roots)).decode("ascii")
    members = {"tenant": added.tenant, "domain": added.domain, "certificates": pem}
    write_file(folder / f"{added.tenant}.json", json.dumps(members).encode(), replace=True)


def remove(folder: Path, tenant: TenantId) -> bool:
    """Let the tenant's own authorities count no more; False when there was none."""
    path = folder / f"{tenant}.json"
    if not path.exists():
        return False
    path.unlink()
    sync_folder(folder)
    return True


def _parsed(path: Path) -> Foreign:
    try:
        members: dict[str, Any] = json.loads(path.read_bytes())
        roots = x509.load_pem_x509_certificates(members["certificates"].encode("ascii"))
        return Foreign(parse_tenant(members["tenant"]), str(members["domain"]), tuple(roots))
    except (ValueError, KeyError, TypeError, AttributeError, InvalidInputError) as error:
        raise ConfigError(
            f"{path} is not what was written ({type(error).__name__})",
            subject=f"file {path}",
            next_step="give the tenant's bundle again with target-appliance tenants trust",
        ) from None


def _key(certificate: x509.Certificate) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest


def _refused(why: str) -> InvalidInputError:
    return InvalidInputError(
        f"the bundle {why}", subject="bundle", next_step="give the certificates of the tenant's authority, PEM"
    )

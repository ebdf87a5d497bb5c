"""What ``tenants trust`` does."""

from pathlib import Path
from typing import Any

from common.clock import SystemClock
from common.errors import InvalidInputError
from common.ids import parse_tenant
from target_appliance.catalog.catalog import Catalog
from target_appliance.config import ApplianceConfig, trust_domain
from target_appliance.identity.authority import Authority
from target_appliance.identity.signing import fingerprint_of


def entrust(config: ApplianceConfig, name: str, bundle: Path | None, domain: str | None) -> dict[str, Any]:
    """Let the authorities in ``bundle`` vouch for a registered tenant; what now counts, for ``--json``.

    Raises:
        NotFoundError: there is no such tenant.
        InvalidInputError: the bundle or the domain is none.
        PreconditionError: one of the authorities vouches for somebody else.
    """
    if bundle is None:
        raise InvalidInputError("no bundle was named", subject="bundle", next_step="give --bundle FILE, or --remove")
    try:
        wanted = trust_domain(domain or config.trust_domain)
    except ValueError as error:
        raise InvalidInputError(
            f"{str(domain)[:80]!a} {error}", subject="argument --domain", next_step="give the trust domain's name alone"
        ) from None
    tenant = parse_tenant(name)
    authority = _opened(config, name)
    added = authority.entrust(tenant, wanted, bundle.read_bytes())
    shown = [
        {"sha256": fingerprint_of(root), "not_after": root.not_valid_after_utc.isoformat()} for root in added.roots
    ]
    return {"tenant": tenant, "domain": wanted, "authorities": shown}


def distrust(config: ApplianceConfig, name: str) -> dict[str, Any]:
    """Let the tenant's own authorities vouch no more. Raises NotFoundError."""
    _opened(config, name).distrust(parse_tenant(name))
    return {"tenant": name, "domain": None, "authorities": []}


def _opened(config: ApplianceConfig, name: str) -> Authority:
    clock = SystemClock()
    authority = Authority.open(config.authority_dir, config.trust_domain, clock)
    with Catalog.open(config.catalog, clock) as catalog:
        catalog.tenant(parse_tenant(name))
    return authority

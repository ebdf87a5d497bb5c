"""Pairing lines, made by an operator: ``tenants add`` and ``agents add``."""

import dataclasses
import secrets
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from common.address import HostPort, split
from common.clock import Clock, SystemClock
from common.errors import ConfigError
from common.ids import AgentId, TenantId, parse_tenant
from common.pairing_line import TOKEN_BYTES, PairingLine
from target_appliance.catalog.catalog import Catalog
from target_appliance.config import ApplianceConfig
from target_appliance.identity.authority import Authority
from target_appliance.set_up import register_tenant


@dataclasses.dataclass(frozen=True, slots=True)
class Offer:
    """A pairing line, and whom it will let in. It is a secret until it is used or expires."""

    tenant: TenantId
    new: bool
    """The tenant was registered with it."""
    agent: AgentId
    line: PairingLine
    expires: datetime

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "tenant": self.tenant,
            "new": self.new,
            "agent": self.agent,
            "line": self.line.text(),
            "address": self.line.address,
            "authority_sha256": self.line.fingerprint.hex(),
            "expires": self.expires.isoformat(),
        }


def offer(
    config: ApplianceConfig,
    name: str,
    minutes: int,
    *,
    may_be_new: bool,
    address: HostPort | None = None,
    clock: Clock | None = None,
) -> Offer:
    """A line that lets one new agent of a tenant in, within so many minutes. It works at once, serving or not.

    Args:
        config: the appliance's.
        name: the tenant's.
        minutes: how long the line counts.
        may_be_new: register the tenant where it is not known.
        address: what agents dial, if it is not the first of the server's names.
        clock: the machine's by default.

    Raises:
        InvalidInputError: the name is no tenant's.
        NotFoundError: there is no such tenant.
        ConfigError: the appliance does not listen for enrolment.
    """
    clock = clock or SystemClock()
    tenant = parse_tenant(name)
    if config.listen.enrollment is None:
        raise ConfigError(
            "the configuration names no port for pairing",
            subject="config listen.enrollment",
            next_step="set listen.enrollment and start the appliance again, or issue files with tenants add --out",
        )
    authority = Authority.open(config.authority_dir, config.trust_domain, clock)
    with Catalog.open(config.catalog, clock) as catalog:
        new = may_be_new and register_tenant(config, catalog, tenant)
        catalog.tenant(tenant)
        agent, token = AgentId(str(uuid.uuid4())), secrets.token_bytes(TOKEN_BYTES)
        catalog.add_pairing(token, tenant, agent, minutes * 60)
    line = PairingLine(address or _dialled(config), token, authority.fingerprint)
    return Offer(tenant, new, agent, line, clock.now().astimezone(UTC) + timedelta(minutes=minutes))


def _dialled(config: ApplianceConfig) -> HostPort:
    name = config.listen.names[0]
    host = f"[{name}]" if ":" in name else name
    return f"{host}:{split(config.listen.enrollment or '')[1]}"

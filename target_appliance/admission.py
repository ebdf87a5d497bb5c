"""Who may come in, and how much: what an operator changes while the appliance serves.

The serving process reads the catalog again within seconds. Beside the catalog a file per tenant and the folder of
revoked certificates say the same, so that a catalog that was lost and rebuilt lets nobody in again.
"""

import json
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from common.clock import Clock, SystemClock
from common.errors import AlreadyExistsError, ConfigError
from common.ids import AgentId, TenantId, parse_agent, parse_tenant
from common.private_file import PUBLIC, write_file
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.model import AgentRow, TenantLimits, TenantRow
from target_appliance.catalog.register import agent_row
from target_appliance.config import ApplianceConfig
from target_appliance.identity.authn import Identity, identify
from target_appliance.identity.authority import Authority
from target_appliance.identity.names import Role

_PRIVATE_FOLDER = 0o700


@dataclass(frozen=True, slots=True)
class Admission:
    """Changes of who may come in; see ``opened``."""

    catalog: Catalog
    authority: Authority
    folder: Path
    """Of the tenants' files."""
    clock: Clock

    def suspend(self, name: str) -> TenantRow:
        """Let none of the tenant's certificates in; calls that run end within seconds. Raises NotFoundError."""
        now = int(self.clock.now().timestamp())
        return self._changed(name, lambda row: replace(row, suspended=row.suspended or now))

    def resume(self, name: str) -> TenantRow:
        """Take a suspension back. Raises NotFoundError."""
        return self._changed(name, lambda row: replace(row, suspended=None))

    def limit(self, name: str, change: Callable[[TenantLimits], TenantLimits]) -> TenantRow:
        """Set what the tenant may take; what it has already stays. Raises NotFoundError."""
        return self._changed(name, lambda row: replace(row, limits=change(row.limits)))

    def revoke(self, agent: str) -> AgentRow:
        """Let the agent in no more, for good; its calls that run end within seconds.

        Raises:
            InvalidInputError: that is no agent's id.
            NotFoundError: there is no such agent.
        """
        row = self.catalog.revoke_agent(parse_agent(agent))
        self.authority.withdraw(row.agent)
        return row

    def forget(self, tenant: TenantId) -> int:
        """Let nobody of the tenant's in again, and keep nothing that names it; returns how many rows went."""
        for row in self.catalog.agents(tenant):
            self.authority.withdraw(row.agent)
        self.authority.distrust(tenant)
        (self.folder / f"{tenant}.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder.parent / "drills" / tenant, ignore_errors=True)
        return self.catalog.forget_tenant(tenant)

    def add_operator(self, name: str, folder: Path) -> Identity:
        """Issue a certificate that reads the tenant's replicas, into ``folder``; whom it names.

        Raises:
            NotFoundError: there is no such tenant.
            AlreadyExistsError: the folder holds an operator's key already.
        """
        tenant = self.catalog.tenant(parse_tenant(name)).tenant
        folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
        if (folder / "operator.key").exists():
            raise AlreadyExistsError(
                f"{folder / 'operator.key'} exists: it may be the only copy of another operator's key",
                subject=f"file {folder / 'operator.key'}",
                next_step="give another folder with --out",
            )
        issued = self.authority.issue_agent(tenant, AgentId(str(uuid.uuid4())), Role.OPERATOR)
        identity = identify(issued.certificate_pem, self.authority.trust, self.clock.now())
        self.catalog.put_agent(agent_row(identity, issued.certificate_pem))
        write_file(folder / "operator.key", issued.key_pem)
        write_file(folder / "operator.crt", issued.certificate_pem, mode=PUBLIC, replace=True)
        write_file(folder / "ca.crt", self.authority.held.bundle_pem, mode=PUBLIC, replace=True)
        return identity

    def _changed(self, name: str, change: Callable[[TenantRow], TenantRow]) -> TenantRow:
        """The file first: should the machine stop in between, a rebuilt catalog is the stricter one or the same."""
        row = change(self.catalog.tenant(parse_tenant(name)))
        self.folder.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
        write_file(self.folder / f"{row.tenant}.json", json.dumps(asdict(row)).encode(), replace=True)
        self.catalog.put_tenant(row)
        return row


@contextmanager
def opened(config: ApplianceConfig, clock: Clock | None = None) -> Iterator[Admission]:
    """What changes admission at this appliance, serving or not.

    Raises:
        PreconditionError: it was not made yet.
    """
    clock = clock or SystemClock()
    authority = Authority.open(config.authority_dir, config.trust_domain, clock)
    with Catalog.open(config.catalog, clock) as catalog:
        yield Admission(catalog, authority, _folder(config), clock)


def restore(config: ApplianceConfig, catalog: Catalog) -> None:
    """Put the files' word into a catalog that was rebuilt.

    Raises:
        ConfigError: a file is not what was written: nobody can say who was shut out.
    """
    for path in sorted(_folder(config).glob("*.json")):
        row = _parsed(path)
        catalog.add_tenant(row.tenant)
        catalog.put_tenant(row)


def _folder(config: ApplianceConfig) -> Path:
    return config.state_dir / "tenants"


def _parsed(path: Path) -> TenantRow:
    try:
        members: dict[str, Any] = json.loads(path.read_bytes())
        return TenantRow(
            TenantId(parse_tenant(members["tenant"])), TenantLimits(**members["limits"]), members["suspended"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path} is not what was written ({type(error).__name__})",
            subject=f"file {path}",
            next_step="remove it, then set the tenant's limits, and suspend it again if it was suspended",
        ) from None

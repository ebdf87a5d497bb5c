"""Making an appliance and letting tenants in: what ``init`` and ``tenants`` do."""

import contextlib
import dataclasses
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from common.clock import Clock, SystemClock
from common.errors import AlreadyExistsError, CertificateError, KeysapartError
from common.ids import AgentId, TenantId, parse_tenant
from common.private_file import PUBLIC, write_file
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.register import agent_row
from target_appliance.config import ApplianceConfig
from target_appliance.identity.authn import identify
from target_appliance.identity.authority import Authority
from target_appliance.kms import registry
from target_appliance.recovery.names import tenant_folder
from target_appliance.store.posix import PosixStore

_PRIVATE_FOLDER = 0o700


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """What ``initialise`` made."""

    authority: Path
    catalog: str
    store: Path
    kms: str
    kms_trouble: str | None
    """Why the KMS cannot be used yet; None when it passed its test."""

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "authority": str(self.authority),
            "catalog": self.catalog,
            "store": str(self.store),
            "kms": {"name": self.kms, "ready": self.kms_trouble is None, "trouble": self.kms_trouble},
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Added:
    """A tenant, and the agent that was let in for it."""

    tenant: TenantId
    new: bool
    agent: AgentId
    not_after: datetime
    folder: Path

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "tenant": self.tenant,
            "new": self.new,
            "agent": self.agent,
            "not_after": self.not_after.isoformat(),
            "certificate_file": str(self.folder / "agent.crt"),
            "key_file": str(self.folder / "agent.key"),
            "ca_file": str(self.folder / "ca.crt"),
        }


def initialise(config: ApplianceConfig, clock: Clock | None = None) -> Made:
    """Make folders, keys and catalog; the authority last, so that an interrupted run can be repeated.

    Raises:
        AlreadyExistsError: the appliance is there already; nothing was changed.
    """
    clock = clock or SystemClock()
    if config.authority_dir.exists():
        raise AlreadyExistsError(
            f"the appliance in {config.state_dir} exists already",
            subject=f"folder {config.state_dir}",
            next_step="go on with target-appliance tenants add and serve",
        )
    for folder in (config.state_dir, config.store_dir):
        folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
    for settings in (config.kms, *config.kms_named.values()):
        registry.prepare(settings)
    Catalog.open(config.catalog, clock).close()
    kms, trouble = _look_at_kms(config, clock)
    Authority.create(config.authority_dir, config.trust_domain, clock).server(config.listen.names)
    return Made(
        config.authority_dir,
        str(config.state_dir / "catalog.sqlite") if config.catalog_url is None else "catalog_url",
        config.store_dir,
        kms,
        trouble,
    )


def add_tenant(config: ApplianceConfig, name: str, folder: Path, clock: Clock | None = None) -> Added:
    """Register a tenant where it is new, and issue one agent's certificate into ``folder``.

    Raises:
        InvalidInputError: the name is no tenant's.
        AlreadyExistsError: the folder holds an agent's files already.
    """
    clock = clock or SystemClock()
    tenant = parse_tenant(name)
    authority = Authority.open(config.authority_dir, config.trust_domain, clock)
    _refuse_overwriting(folder, authority.held.bundle_pem)
    with Catalog.open(config.catalog, clock) as catalog:
        new = register_tenant(config, catalog, tenant)
        issued = authority.issue_agent(tenant, AgentId(str(uuid.uuid4())))
        identity = identify(issued.certificate_pem, authority.trust, clock.now())
        catalog.put_agent(agent_row(identity, issued.certificate_pem))
    folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
    write_file(folder / "agent.key", issued.key_pem)
    write_file(folder / "agent.crt", issued.certificate_pem, mode=PUBLIC)
    write_file(folder / "ca.crt", authority.held.bundle_pem, mode=PUBLIC, replace=True)
    return Added(tenant, new, identity.agent, identity.not_after, folder)


def register_tenant(config: ApplianceConfig, catalog: Catalog, tenant: TenantId) -> bool:
    """Make ``tenant`` known to catalog and store; False when it was."""
    new = catalog.add_tenant(tenant)
    with contextlib.closing(PosixStore(config.store_dir)) as store:
        store.make_folder(tenant_folder(tenant))  # by which catalog rebuild knows the tenant
    return new


def register_issued(authority: Authority, catalog: Catalog, clock: Clock | None = None) -> int:
    """Put back into the catalog whom the authority issued certificates that are still valid; returns how many."""
    now, registered = (clock or SystemClock()).now(), 0
    for pem in authority.issued():
        try:
            identity = identify(pem, authority.trust, now)
        except CertificateError:  # expired: nobody is let in with it anyway
            continue
        catalog.add_tenant(identity.tenant)
        catalog.put_agent(agent_row(identity, pem))
        registered += 1
    return registered


def list_tenants(config: ApplianceConfig, clock: Clock | None = None) -> list[dict[str, Any]]:
    """Tenants with their agents, for ``--json``."""
    with Catalog.open(config.catalog, clock or SystemClock()) as catalog:
        return [
            {
                "tenant": tenant,
                "suspended": _iso(catalog.tenant(tenant).suspended),
                "agents": [
                    {
                        "agent": row.agent,
                        "role": row.role.value,
                        "not_after": _iso(row.not_after),
                        "revoked": _iso(row.revoked),
                    }
                    for row in catalog.agents(tenant)
                ],
            }
            for tenant in catalog.tenants()
        ]


def _iso(seconds: int | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def _look_at_kms(config: ApplianceConfig, clock: Clock) -> tuple[str, str | None]:
    """Name of the KMS, and what is wrong with it; a KMS that comes later is no reason to make no appliance."""
    try:
        kms = registry.create(config.kms, clock)
    except KeysapartError as error:
        return config.kms.driver, str(error)
    try:
        kms.probe()
    except KeysapartError as error:
        return kms.name, str(error)
    finally:
        kms.close()
    return kms.name, None


def _refuse_overwriting(folder: Path, ca_pem: bytes) -> None:
    for name in ("agent.key", "agent.crt"):
        if (folder / name).exists():
            raise AlreadyExistsError(
                f"{folder / name} exists: it may be the only copy of another agent's key",
                subject=f"file {folder / name}",
                next_step="give another folder with --out",
            )
    ca_file = folder / "ca.crt"
    if ca_file.exists() and ca_file.read_bytes() != ca_pem:
        raise AlreadyExistsError(
            f"{ca_file} belongs to another certificate authority",
            subject=f"file {ca_file}",
            next_step="give another folder with --out",
        )

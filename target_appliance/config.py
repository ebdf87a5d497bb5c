"""The appliance's configuration file, as frozen models. ``common.config.load`` reads it.

An unknown key is an error. Relative paths are relative to the folder of the file.
"""

import re
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import AfterValidator, Field, model_validator

from common.address import HostPort, Loopback
from common.config import ConfigPath, Section
from target_appliance.native.section import VCenterSection

S = TypeVar("S", bound=Section)

_CREDENTIAL = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*$"
_TRUST_DOMAIN = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?")


def trust_domain(text: str) -> str:
    """``text``, if it can be a SPIFFE trust domain. Raises ValueError."""
    if not _TRUST_DOMAIN.fullmatch(text):
        raise ValueError("should be a SPIFFE trust domain: lower-case letters, digits, dots, hyphens, underscores")
    return text


def _require_one(section: S, file: str) -> S:
    """A secret comes from one place. Raises ValueError."""
    if (getattr(section, file) is None) == (getattr(section, "credential", None) is None):
        raise ValueError(f"should name exactly one of {file} and credential")
    return section


class Listen(Section):
    """Where the appliance listens."""

    data: HostPort
    health: HostPort
    enrollment: HostPort | None = None
    """Where agents without a certificate trade a pairing line for one; nowhere if left out."""
    metrics: Loopback | None = None
    """Prometheus metrics, over HTTP in the clear, for this machine: they name all tenants. Nowhere if left out."""
    names: tuple[Annotated[str, Field(min_length=1, max_length=253)], ...] = Field(min_length=1)
    """Host names and addresses that the server certificate is valid for: what agents dial."""


class KmipSettings(Section):
    """A KMIP 1.4 server over mutual TLS."""

    endpoints: tuple[HostPort, ...] = Field(min_length=1)
    """Tried in order; the one that answered is kept until it fails."""
    server_name: str | None = None
    """Name or address that the server's certificate must bear; default: the host of the endpoint."""
    ca_file: ConfigPath
    certificate_file: ConfigPath
    key_file: ConfigPath


class EmbeddedSettings(Section):
    """Keys in a sealed file on the appliance itself, for one machine; see docs/operations.md for its limits."""

    file: ConfigPath
    passphrase_file: ConfigPath | None = None
    credential: str | None = Field(default=None, pattern=_CREDENTIAL)
    """Name of a systemd credential that holds the passphrase."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        return _require_one(self, "passphrase_file")


class Pkcs11Settings(Section):
    """A token behind a PKCS#11 library: an HSM, or SoftHSM."""

    module: ConfigPath
    """The library that came with the HSM's client software."""
    token_label: str = Field(min_length=1, max_length=32)
    pin_file: ConfigPath | None = None
    credential: str | None = Field(default=None, pattern=_CREDENTIAL)
    """Name of a systemd credential that holds the PIN."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        return _require_one(self, "pin_file")


class TransitSettings(Section):
    """The Transit engine of OpenBao or HashiCorp Vault, over TLS and a token."""

    endpoints: tuple[HostPort, ...] = Field(min_length=1)
    """Tried in order; the one that answered is kept until it fails."""
    server_name: str | None = None
    """Name or address that the server's certificate must bear; default: the host of the endpoint."""
    ca_file: ConfigPath
    mount: str = Field(default="transit", pattern=r"^[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*$")
    """Path at which the engine is mounted."""
    namespace: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*$")
    token_file: ConfigPath | None = None
    """Read at every call, so that an agent of the server may renew it."""
    credential: str | None = Field(default=None, pattern=_CREDENTIAL)
    """Name of a systemd credential that holds the token."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        return _require_one(self, "token_file")


class KmsSettings(Section):
    """Which key server, and how to reach it. There is no default: keys are never kept somewhere by accident."""

    driver: Literal["kmip", "transit", "pkcs11", "embedded"]
    kmip: KmipSettings | None = None
    transit: TransitSettings | None = None
    pkcs11: Pkcs11Settings | None = None
    embedded: EmbeddedSettings | None = None

    @model_validator(mode="after")
    def _chosen_is_described(self) -> Self:
        if getattr(self, self.driver) is None:
            raise ValueError(f"should have a table [kms.{self.driver}], because driver is {self.driver!r}")
        return self


KmsName = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$")]


class Limits(Section):
    """Bounds on what one tenant or one stream may take."""

    streams_per_tenant: int = Field(default=16, ge=1, le=1024)
    """Disks that one tenant's agents may write at once."""
    idle_seconds: float = Field(default=60, ge=1, le=3600)
    """A stream without a frame for so long is ended, and a call whose request does not come."""


class SyncSettings(Section):
    """Syncs under way."""

    park_hours: float = Field(default=24, ge=0, le=24 * 30)
    """How long what a sync has staged waits for an agent that fell silent."""


class KeySettings(Section):
    """Data keys in memory."""

    keep_minutes: float = Field(default=15, ge=0.1, le=24 * 60)
    """How long a data key is kept after the KMS gave it out, and how long a sync goes on while the KMS is silent."""


class ScrubSettings(Section):
    """The background verify."""

    enabled: bool = True
    mib_per_second: float = Field(default=20, ge=1, le=100_000)
    """How much it reads at most. With much less, one hour a night is too short for one piece, and no look ends."""
    hours: tuple[Annotated[int, Field(ge=0, le=23)], Annotated[int, Field(ge=0, le=24)]] | None = None
    """Hours of the day, by the machine's own time, in which it reads, such as ``[22, 6]``; any time if left out."""
    every_days: float = Field(default=30, ge=0.01, le=3650)
    """How long after a look a good point is looked at again."""
    after_hours: float = Field(default=24, ge=0, le=24 * 365)
    """How old a point is before the first look."""
    with_key: bool = True
    """Open what is sealed, too, where the KMS gives the keys out."""


class LogSettings(Section):
    """What is logged, and in which form."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "console"


class AuditSettings(Section):
    """The audit log, which lies in ``state_dir``."""

    head_every: int = Field(default=100, ge=1, le=1_000_000)
    """Events between two heads of it in the ordinary log."""


class ApplianceConfig(Section):
    """The whole file."""

    state_dir: ConfigPath
    """Certificate authority, server key and catalog; 0700."""
    store_dir: ConfigPath
    """The store: sealed points."""
    trust_domain: Annotated[str, AfterValidator(trust_domain)]
    """First part of every identity that this appliance issues."""
    listen: Listen
    kms: KmsSettings
    """Of all tenants for which no other was chosen."""
    kms_named: dict[KmsName, KmsSettings] = Field(default_factory=dict)
    """Others, which a tenant may be given by name."""
    limits: Limits = Limits()
    sync: SyncSettings = SyncSettings()
    keys: KeySettings = KeySettings()
    audit: AuditSettings = AuditSettings()
    scrub: ScrubSettings = ScrubSettings()
    log: LogSettings = LogSettings()
    vcenter: VCenterSection | None = None
    """The site's own vCenter, for failover; without it points are kept, verified and exported."""
    catalog_url: str | None = None
    """SQLAlchemy URL of the catalog; default: ``catalog.sqlite`` in ``state_dir``."""

    @property
    def catalog(self) -> str:
        """The catalog's URL."""
        return self.catalog_url or f"sqlite:///{self.state_dir / 'catalog.sqlite'}"

    @property
    def audit_dir(self) -> Path:
        """Folder of the audit log."""
        return self.state_dir / "audit"

    @property
    def failover_dir(self) -> Path:
        """Folder of what is known of failovers, and of signed results of tests."""
        return self.state_dir / "failovers"

    @property
    def authority_dir(self) -> Path:
        """Folder of the certificate authority and the server's own certificate."""
        return self.state_dir / "authority"

"""``[vcenter]``: the target site's vCenter, and where VMs are made there."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from common.config import ConfigPath, Section
from common.errors import Fault
from common.vsphere.settings import VCenterSettings


class VCenterSection(Section):
    """Address, login and trust; then the places, by their names in the vCenter."""

    host: str = Field(min_length=1)
    port: int = Field(default=443, gt=0, lt=1 << 16)
    user: str = Field(min_length=1)
    password_file: ConfigPath
    ca_file: ConfigPath | None = None
    certificate_sha256: str | None = Field(default=None, pattern=r"^(?:[0-9A-Fa-f]{2}:?){32}$")
    timeout_seconds: float = Field(default=60.0, gt=0, le=3600)

    appliance_vm: str = Field(min_length=1)
    """The VM that this appliance runs in: disks are attached to it to be written."""
    device_dir: ConfigPath = Path("/dev/disk/by-path")
    """Where its kernel shows attached disks."""
    cluster: str = Field(min_length=1)
    """Whose hosts run the VMs."""
    folder: str | None = None
    """VM folder; the datacenter's own if left out."""
    datastore: str = Field(min_length=1)
    key_provider: str = Field(min_length=1)
    """Whose keys encrypt the VM's home and every disk."""
    policy: str | None = None
    """Id of the storage policy that VM and disks are given beside the key; none if left out."""
    network: str = Field(min_length=1)
    """Of adapters whose own network is not in ``networks``."""
    networks: dict[str, str] = Field(default_factory=dict)
    """The source's networks, and what they are here."""
    test_network: str | None = None
    """An isolated one for ``failover --test``; without it a test VM has no adapter."""

    cpus: int = Field(default=2, ge=1, le=768)
    memory_mib: int = Field(default=4096, ge=4, le=24 << 20)
    guest_id: str = "otherGuest64"
    firmware: Literal["bios", "efi"] = "bios"

    @model_validator(mode="after")
    def _one_kind_of_trust(self) -> Self:
        if (self.ca_file is None) == (self.certificate_sha256 is None):
            raise ValueError("set exactly one of ca_file and certificate_sha256")
        return self

    @property
    def settings(self) -> VCenterSettings:
        """For a session."""
        return VCenterSettings(
            self.host,
            self.port,
            self.user,
            self.password_file,
            self.ca_file,
            self.certificate_sha256,
            self.timeout_seconds,
            side=Fault.TARGET,
        )

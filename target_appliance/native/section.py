"""``[vcenter]``: the target site's vCenter, and where VMs are made there."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from common.config import ConfigPath
from common.errors import Fault
from common.vsphere.section import AccessSection


class VCenterSection(AccessSection):
    """Address, login and trust; then the places, by their names in the vCenter."""

    side = Fault.TARGET

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

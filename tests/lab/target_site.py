"""The target site's own vCenter: where native mode makes VMs, under a key provider of that site.

    with TargetSite(tmp_path) as site:
        site.order("misdeed", what="disk", how="unset")

Its standard key provider makes its keys at a KMIP server of its own; the native one makes them by itself. Disks that
are attached to ``appliance-vm`` appear in ``devices``, for writing when they belong to a VM that is powered off.
"""

import contextlib
from pathlib import Path
from typing import Any

from tests.lab import build, ports
from tests.lab.content import make_disk
from tests.lab.door import Door
from tests.lab.inventory import MIB, DiskSpec, MachineSpec
from tests.lab.kmip import KmipSite
from tests.lab.started import Started
from tests.lab.vcenter import VCenter

STANDARD_PROVIDER = "target-site-kms"
NATIVE_PROVIDER = "target-site-native"
NETWORK = "VM Network"
PORT_GROUPS = ("DC0_DVPG0", "DC0_DVPG1")
APPLIANCE_VM = "appliance-vm"
_MACHINES = (MachineSpec(APPLIANCE_VM, (DiskSpec(2000, MIB),), encrypted=True, agent=True, controllers=2),)


class TargetSite(Started):
    """A vCenter with three hosts, a datastore, networks, the appliance's VM, and two key providers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.devices = self.folder / "devices"
        self._held = contextlib.ExitStack()

    def start(self) -> None:
        """Start it; returns when it serves."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            build.binary()
            self.devices.mkdir(parents=True, exist_ok=True)
            port, data, kms = self._held.enter_context(ports.reserved(3))
            self.kms = KmipSite(self.folder / "kms", "vcenter", kms)
            self._held.callback(self.kms.close)
            self.kms.start()
            maker = self._held.enter_context(Door(self._key))
            for spec in _MACHINES:
                for disk in spec.disks:
                    base = self.folder / "disks" / spec.name / str(disk.key) / "base.raw"
                    make_disk(base, disk.size, f"{spec.name}/{disk.key}")
            self.vcenter = VCenter(self.folder, port, data, STANDARD_PROVIDER)
            self._held.callback(self.vcenter.close)
            sizes = {f"{spec.name}/{disk.key}": disk.size for spec in _MACHINES for disk in spec.disks}
            keys = {spec.name: self.kms.create_key(spec.name) for spec in _MACHINES}
            more = {"keyMaker": maker.url, "nativeProvider": NATIVE_PROVIDER, "networks": len(PORT_GROUPS)}
            self.vcenter.launch(_MACHINES, sizes, keys, self.kms.endpoint, more)
            self.vcenter.wait_ready()
            undo.pop_all()

    def join(self, appliance_toml: Path) -> None:
        """Append the ``[vcenter]`` section for this site to an appliance's configuration."""
        with appliance_toml.open("a") as config:
            config.write(self._section())

    def _section(self) -> str:
        return f"""
[vcenter]
host = "{self.vcenter.host}"
port = {self.vcenter.port}
user = "{self.vcenter.user}"
password_file = "{self.vcenter.password_file}"
ca_file = "{self.vcenter.ca_file}"
appliance_vm = "{APPLIANCE_VM}"
device_dir = "{self.devices}"
cluster = "DC0_C0"
datastore = "LocalDS_0"
key_provider = "{STANDARD_PROVIDER}"
network = "{NETWORK}"
test_network = "{PORT_GROUPS[0]}"
"""

    def order(self, command: str, **arguments: Any) -> Any:
        """Give an order through the vCenter's control door."""
        return self.vcenter.order(command, **arguments)

    def file(self, vm: str, key: int) -> Path:
        """What lies on a VM's disk."""
        return self.folder / "disks" / vm / str(key) / "base.raw"

    def attached(self) -> list[dict[str, Any]]:
        """Disks of other VMs that are attached to the appliance's."""
        found: list[dict[str, Any]] = self.order("orphans")
        return found

    def heal(self) -> None:
        """End all faults, misdeeds and denials, and bring providers and hosts back."""
        self.order("clear-faults")
        self.order("allow")
        self.order("host-crypto", name="safe")
        self.order("space", bytes=1 << 40)
        for provider, kind in ((STANDARD_PROVIDER, "vCenter"), (NATIVE_PROVIDER, "nativeProvider")):
            self.order("provider", name=provider, on=True)
            self.order("provider", name=provider, kind=kind)

    def close(self) -> None:
        """End everything that was started."""
        self._held.close()

    def _key(self, words: list[str]) -> str:
        """The vCenter's door to the key server: ``make NAME`` or ``state ID``."""
        action, what = words
        return self.kms.create_key(what) if action == "make" else self.kms.state(what)

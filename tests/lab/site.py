"""Both sites, started and stopped together.

    with Lab(tmp_path, disk_mib=16) as lab:
        lab.guest("web01", 2000).write(0, b"...")
        lab.control("fault", "CreateSnapshot_Task", "ApplicationQuiesceFault", "--count", "1")

Everything a lab makes stays in its folder, and ``start`` in a folder that was used before goes on with the disks and
keys it finds there; change tracking begins anew.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.lab import build, configs, control, ports
from tests.lab.content import make_disk
from tests.lab.door import Door
from tests.lab.guest import GuestDisk
from tests.lab.inventory import MachineSpec, machines
from tests.lab.kmip import KmipSite
from tests.lab.started import Started
from tests.lab.vcenter import KEY_PROVIDER, VCenter
from tests.lab.vddk_root import VddkRoot


@dataclass(frozen=True, slots=True)
class Disk:
    """A virtual disk: device key and capacity."""

    key: int
    size: int


@dataclass(frozen=True, slots=True)
class Machine:
    """A VM of the lab; ``refused`` says why it cannot be protected, None if it can."""

    name: str
    moref: str
    encrypted: bool
    disks: tuple[Disk, ...]
    refused: str | None


class Lab(Started):
    """Two sites in one folder.

    Args:
        folder: made when missing.
        disk_mib: size of the first disk of web01 and plain01.
        more: so many small VMs beside the usual ones.
    """

    def __init__(self, folder: Path | str, disk_mib: int = 64, more: int = 0) -> None:
        self.folder = Path(folder).resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._specs = machines(disk_mib, more)
        self._held = contextlib.ExitStack()
        self.machines: tuple[Machine, ...] = ()
        self.agent_toml = self.folder / "agent.toml"
        self.appliance_toml = self.folder / "appliance.toml"

    def start(self) -> None:
        """Start everything; returns when all of it serves."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._start()
            undo.pop_all()

    def _start(self) -> None:
        build.binary()
        vcenter, hosts, kms, source_kms, *listening = self._held.enter_context(ports.reserved(7))
        self.data_port, self.health_port, self.enrollment_port = listening
        self.kms = KmipSite(self.folder / "kms", "target", kms)
        self._held.callback(self.kms.close)
        self.source_kms = KmipSite(self.folder / "source-kms", "source", source_kms)
        self._held.callback(self.source_kms.close)
        self.kms.launch()
        self.source_kms.launch()
        sizes = {
            f"{spec.name}/{disk.key}": self._prepare(spec.name, disk.key, disk.size)
            for spec in self._specs
            for disk in spec.disks
        }
        self._clear_devices()
        self.vcenter = VCenter(self.folder, vcenter, hosts)
        self._held.callback(self.vcenter.close)
        self.source_kms.wait_ready()
        self.vcenter.launch(self._specs, sizes, self._keys(), self.source_kms.endpoint)
        self.vcenter.wait_ready()
        self.kms.wait_ready()
        self.machines = tuple(
            self._machine(spec, told) for spec, told in zip(self._specs, self.vcenter.machines, strict=True)
        )
        door = self._held.enter_context(Door(lambda words: control.run(self, words)))
        self.vddk = VddkRoot(self.folder / "vddk", self._vddk_values())
        self.agent_toml.write_text(configs.agent_toml(self))
        self.appliance_toml.write_text(configs.appliance_toml(self))
        self._door_url = door.url
        self.describe()

    def close(self) -> None:
        """End everything that was started, by process id; the folder stays as it is."""
        self._held.close()

    def control(self, *words: object) -> Any:
        """Give an order; see ``tests/lab/control.py``."""
        return control.run(self, [str(word) for word in words])

    def machine(self, name: str) -> Machine:
        """The VM of that name."""
        return next(machine for machine in self.machines if machine.name == name)

    def guest(self, vm: str, key: int) -> GuestDisk:
        """A disk as its guest sees it."""
        return GuestDisk(self.folder / "disks" / vm / str(key))

    def image(self, vm: str, folder: Path) -> dict[int, Path]:
        """Raw images of all disks of a VM as they are now, by device key."""
        folder.mkdir(parents=True, exist_ok=True)
        images = {disk.key: folder / f"{vm}-{disk.key}.raw" for disk in self.machine(vm).disks}
        for key, path in images.items():
            self.guest(vm, key).image(path)
        return images

    def _prepare(self, vm: str, key: int, size: int) -> int:
        """Make a disk, or flatten what an earlier lab left; returns its size."""
        folder = self.folder / "disks" / vm / str(key)
        base = folder / "base.raw"
        if not base.exists():
            make_disk(base, size, f"{vm}/{key}")
            return size
        flat = folder / "base.new"
        GuestDisk(folder).image(flat)
        flat.replace(base)
        for stale in [*folder.glob("delta-*"), *folder.glob("attached-*"), folder / "layers", folder / "changes.log"]:
            stale.unlink(missing_ok=True)
        return base.stat().st_size

    def _clear_devices(self) -> None:
        devices = self.folder / "devices"
        devices.mkdir(exist_ok=True)
        for link in devices.iterdir():
            if link.is_symlink():
                link.unlink()

    def _vddk_values(self) -> dict[str, object]:
        return {
            "snapshots": self.vcenter.snapshots,
            "thumbprint": self.vcenter.thumbprint,
            "user": self.vcenter.user,
            "password_file": self.vcenter.password_file,
        }

    def _keys(self) -> dict[str, str]:
        """Key ids of the encrypted VMs at the source site's KMS."""
        known = {key.name: key.id for key in self.source_kms.list_keys()}
        return {
            spec.name: known.get(spec.name) or self.source_kms.create_key(spec.name)
            for spec in self._specs
            if spec.encrypted
        }

    @staticmethod
    def _machine(spec: MachineSpec, told: dict[str, Any]) -> Machine:
        disks = tuple(Disk(disk["key"], disk["bytes"]) for disk in told["disks"])
        return Machine(told["name"], told["moref"], told["encrypted"], disks, spec.refused)

    def describe(self) -> None:
        """Write lab.json; again whenever a process was replaced."""

        def shown(machine: Machine) -> dict[str, Any]:
            disks = [{"key": disk.key, "bytes": disk.size} for disk in machine.disks]
            return {"name": machine.name, "moref": machine.moref, "encrypted": machine.encrypted, "disks": disks}

        agent = next(spec.name for spec in self._specs if spec.agent)
        wanted = [machine for machine in self.machines if machine.name != agent]
        described = {
            "vms": [shown(machine) for machine in wanted if machine.refused is None],
            "refused_vms": [shown(machine) | {"why": machine.refused} for machine in wanted if machine.refused],
            "agent_vm": shown(self.machine(agent)),
            "vcenter": {
                "host": self.vcenter.host,
                "port": self.vcenter.port,
                "user": self.vcenter.user,
                "password_file": str(self.vcenter.password_file),
                "ca_file": str(self.vcenter.ca_file),
                "key_provider": KEY_PROVIDER,
            },
            "control": {"url": self._door_url, "vcenter_url": self.vcenter.control_url},
            "kms": _shown_kms(self.kms),
            "source_kms": _shown_kms(self.source_kms),
            "appliance": {
                "data": f"127.0.0.1:{self.data_port}",
                "health": f"127.0.0.1:{self.health_port}",
                "enrollment": f"127.0.0.1:{self.enrollment_port}",
            },
            "pids": {
                "lab": os.getpid(),
                "vcenter": self.vcenter.pid,
                "kms": self.kms.pid,
                "source_kms": self.source_kms.pid,
            },
        }
        fresh = self.folder / "lab.json.new"
        fresh.write_text(json.dumps(described, indent=2) + "\n")
        fresh.replace(self.folder / "lab.json")


def _shown_kms(site: KmipSite) -> dict[str, str]:
    return {
        "endpoint": site.endpoint,
        "server_name": site.server_name,
        "ca_file": str(site.ca_file),
        "certificate_file": str(site.certificate_file),
        "key_file": str(site.key_file),
    }

"""A pair with a point of web01 and the target site's vCenter, for tests of ``failover``:
``from tests.end_to_end.failing_over import both, world``."""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pyVmomi import vim as vmodl
from typer.testing import CliRunner

from target_appliance.cli.app import app
from tests.end_to_end.pair import TENANT, Outcome, Pair, start
from tests.lab.site import Lab
from tests.lab.target_site import APPLIANCE_VM, TargetSite
from tests.lab.vim import Vim, connected, disks, wait


@dataclass
class Both:
    """The pair with a point of web01, the target's vCenter, and what the export says the disks hold."""

    pair: Pair
    site: TargetSite
    exported: dict[int, str]

    def failover(self, *words: object) -> Outcome:
        """In this process: a hundred starts of Python would take minutes."""
        line = ["--config", self.pair.config, "failover", "web01", *words, "--json"]
        ended = CliRunner().invoke(app, [str(word) for word in line], catch_exceptions=False)
        return Outcome(ended.exit_code, ended.stdout, ended.stderr)

    def done(self, *words: object) -> dict[str, Any]:
        outcome = self.failover(*words)
        assert outcome.code == 0, outcome
        return outcome.json

    def refused(self, *words: object) -> dict[str, Any]:
        outcome = self.failover(*words)
        assert outcome.code != 0, outcome
        assert "Traceback" not in outcome.out + outcome.err
        assert "\n" not in outcome.error["message"]
        return outcome.error

    def vms(self) -> dict[str, Any]:
        """VMs beside the appliance's, by name: keys of home and disks, power, networks, device keys."""
        with connected(self.site) as session:
            return {vm.name: shown(vm) for vm in everything(session) if vm.name != APPLIANCE_VM}

    def written(self) -> int:
        """Bytes that took room on the disks of the VMs that were made."""
        made = [folder for folder in (self.site.folder / "disks").iterdir() if folder.name != APPLIANCE_VM]
        return sum(file.stat().st_blocks for folder in made for file in folder.glob("*/base.raw")) * 512

    def equal(self, vm: str) -> bool:
        """Whether the VM's disks are what the export says."""
        keys = sorted(int(key) for key in self.vms()[vm]["disks"])
        return [sha256(self.site.file(vm, key)) for key in keys] == list(self.exported.values())


def everything(session: Vim) -> list[Any]:
    root, kind = session.content.rootFolder, [vmodl.VirtualMachine]
    return list(session.content.viewManager.CreateContainerView(root, kind, True).view)


def shown(vm: Any) -> dict[str, Any]:
    cards = [d for d in vm.config.hardware.device if isinstance(d, vmodl.vm.device.VirtualEthernetCard)]
    return {
        "home": vm.config.keyId,
        "disks": {str(disk.key): disk.backing.keyId for disk in disks(vm)},
        "power": str(vm.runtime.powerState),
        "shape": (
            vm.config.hardware.numCPU,
            vm.config.hardware.memoryMB,
            vm.config.guestId,
            vm.config.firmware,
            any(isinstance(device, vmodl.vm.device.VirtualTPM) for device in vm.config.hardware.device),
        ),
        "networks": [type(card.backing).__name__.rpartition(".")[2] for card in cards],
    }


def sha256(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def killed(both: Both, step: str, number: int, *words: object) -> None:
    program = (sys.executable, "-m", "tests.end_to_end.cut_off", step, number)
    process = start(program, both.pair.config, *words)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 137, (out, err)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("failover")
    with Lab(folder / "lab", disk_mib=8) as lab, TargetSite(folder / "target") as site:
        site.join(lab.appliance_toml)
        with connected(lab) as admin:
            admin.reconfigure(admin.vm("web01"), numCPUs=6)
            admin.add_vtpm(admin.vm("web01"))
        with Pair(lab) as pair:
            pair.sync("web01")
            exported = {}
            for disk in (2000, 2001):
                out = folder / f"{disk}.raw"
                pair.done("export", "web01", "--disk", disk, "--out", out)
                exported[disk] = sha256(out)
            yield Both(pair, site, exported)


@pytest.fixture
def both(world: Both) -> Iterator[Both]:
    yield world
    world.site.heal()
    with connected(world.site) as session:
        appliance = session.vm(APPLIANCE_VM)
        for one in world.site.attached():
            session.detach(appliance, next(d for d in appliance.config.hardware.device if d.key == one["key"]))
        for vm in everything(session):
            if vm.name != APPLIANCE_VM:
                if vm.runtime.powerState == "poweredOn":
                    wait(vm.PowerOffVM_Task())
                wait(vm.Destroy_Task())
    for file in (world.pair.folder / "appliance-state" / "failovers" / TENANT).glob("*.json"):
        file.unlink()

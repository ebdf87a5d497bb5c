"""From a point to a running, encrypted VM of the target site's vCenter, and every way in which that goes wrong."""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from pyVmomi import vim as vmodl
from typer.testing import CliRunner

from common.errors import DamagedError
from target_appliance.cli.app import app
from target_appliance.identity.signing import check, fingerprint_of
from target_appliance.native.blueprint import MARKER
from target_appliance.native.command import RESULT_KIND
from target_appliance.native.failover import STEPS
from tests.end_to_end.pair import TENANT, Outcome, Pair, start
from tests.lab.site import Lab
from tests.lab.target_site import APPLIANCE_VM, NATIVE_PROVIDER, NETWORK, STANDARD_PROVIDER, TargetSite
from tests.lab.vim import Vim, connected, disks, wait

pytestmark = pytest.mark.lab


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


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("failover")
    with Lab(folder / "lab", disk_mib=8) as lab, TargetSite(folder / "target") as site:
        with lab.appliance_toml.open("a") as config:
            config.write(site.toml)
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


def test_a_point_becomes_a_vm_under_the_sites_own_keys(both: Both):
    report = both.done("--verify")

    (vm,) = both.vms().values()
    keys = [vm["home"], *vm["disks"].values()]
    assert {key.providerId.id for key in keys} == {STANDARD_PROVIDER}
    assert {both.site.kms.state(key.keyId) for key in keys} == {"active"}
    with connected(both.pair.lab) as source:
        web01 = source.vm("web01")
        theirs = [web01.config.keyId, *(disk.backing.keyId for disk in disks(web01))]
    assert STANDARD_PROVIDER not in {key.providerId.id for key in theirs}
    assert [one["key"]["id"] for one in report["disks"]] == [key.keyId for key in keys[1:]]
    assert vm["power"] == "poweredOn"
    assert vm["shape"] == (6, 2048, "debian12_64Guest", "efi", True)
    assert vm["networks"] == ["NetworkBackingInfo"]
    assert both.equal("web01")
    assert both.site.attached() == []
    assert report["written_bytes"] < sum(one["capacity_bytes"] for one in report["disks"])
    assert both.written() < report["written_bytes"] + (1 << 20)  # holes stay holes


def test_the_plan_changes_nothing(both: Both):
    (note,) = both.done("--plan")["findings"]
    assert (note["subject"], note["blocks"]) == ("tpm", False)
    assert both.vms() == {}

    for order, arguments, words in (
        ("provider", {"name": STANDARD_PROVIDER, "on": False}, "not active"),
        ("provider", {"name": STANDARD_PROVIDER, "kind": "unknown"}, "not known"),
        ("host-crypto", {"name": "incapable"}, "no host can take encrypted VMs"),
        ("host-crypto", {"name": "prepared"}, "its mode will be switched on"),
        ("space", {"bytes": 1 << 20}, "bytes free"),
        ("deny", {"privilege": "Cryptographer.EncryptNew"}, "lacks Cryptographer.EncryptNew on the folder"),
        ("deny", {"privilege": "VirtualMachine.Config.AddExistingDisk"}, "on the appliance's VM"),
    ):
        both.site.order(order, **arguments)
        outcome = both.failover("--plan")
        (found,) = [one for one in outcome.json["findings"] if one["subject"] != "tpm"]
        assert words in found["what"]
        assert outcome.code == (3 if found["blocks"] else 0)
        if found["blocks"]:
            assert words in both.refused()["message"]
        both.site.heal()
    assert both.vms() == {}


@pytest.mark.parametrize("what", ["vm", "disk"])
@pytest.mark.parametrize("how", ["unset", "foreign-provider", "foreign-key"])
def test_nothing_is_written_where_it_would_lie_in_the_clear_or_under_a_foreign_key(both: Both, what: str, how: str):
    both.site.order("misdeed", what=what, how=how)
    started = both.site.order("calls").get("PowerOnVM_Task", 0)

    error = both.refused()

    assert error["fault"] == "target"
    assert "so nothing was written to it" in error["message"]
    assert both.written() == 0
    assert both.site.order("calls").get("PowerOnVM_Task", 0) == started
    assert {vm["power"] for vm in both.vms().values()} == {"poweredOff"}
    both.site.heal()
    assert both.refused()["message"] == error["message"]
    assert both.done("--clean-up") == {"removed": True}
    assert both.vms() == {}
    both.done()
    assert both.equal("web01")


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"method": "CreateVM_Task", "fault": "NoDiskSpace"}, "creating VM web01 failed"),
        ({"method": "ReconfigVM_Task", "fault": "NoDiskSpace"}, "adding disk 2000"),
        ({"method": "CreateVM_Task", "fault": "drop"}, "creating VM web01 failed"),
        ({"method": "ReconfigVM_Task", "fault": "drop", "skip": 2}, "attaching"),
        ({"method": "PowerOnVM_Task", "fault": "EncryptionKeyRequired"}, "starting"),
        ({"method": "PowerOnVM_Task", "fault": "drop"}, "starting"),
    ],
)
def test_a_call_that_fails_is_told_and_the_next_run_goes_on(both: Both, fault: dict[str, Any], words: str):
    both.site.order("fault", count=1, **fault)

    assert words in both.refused()["message"]

    both.done()
    assert both.equal("web01")
    assert (len(both.vms()), both.site.attached()) == (1, [])


@pytest.mark.parametrize(
    ("method", "skip"), [("CreateVM_Task", 0), *(("ReconfigVM_Task", skip) for skip in range(6)), ("PowerOnVM_Task", 0)]
)
def test_an_answer_that_is_lost_repeats_nothing(both: Both, method: str, skip: int):
    both.site.order("fault", method=method, fault="drop-after", count=1, skip=skip)

    both.done()

    assert both.equal("web01")
    assert (len(both.vms()), both.site.attached()) == (1, [])


CUTS = [(step, 1) for step in STEPS if step not in {"stop", "delete"}]
CUTS += [(f"after {step}", 1) for step, _ in CUTS if step != "write"]
CUTS += [("add-disk", 2), ("attach", 2), ("write", 2), ("write", 4), ("detach", 2), ("written", 2)]


@pytest.mark.parametrize(("step", "number"), CUTS)
def test_killed_at_a_step_it_goes_on(both: Both, step: str, number: int):
    killed(both, step, number, "failover", "web01")
    complete = [key for key, vm in both.vms().items() if vm["power"] == "poweredOn"]

    report = both.done()

    assert both.equal("web01")
    assert both.site.attached() == []
    ((name, vm),) = both.vms().items()
    assert (name, vm["power"]) == ("web01", "poweredOn")
    if complete or step in {"start", "after start"} or (step, number) == ("after written", 2):
        assert report["written_bytes"] == 0


@pytest.mark.parametrize(("step", "number"), [("after create", 1), ("write", 2), ("after written", 1), ("start", 1)])
def test_killed_at_a_step_it_is_cleaned_up(both: Both, step: str, number: int):
    killed(both, step, number, "failover", "web01")

    assert both.done("--clean-up") == {"removed": True}

    assert (both.vms(), both.site.attached()) == ({}, [])


def test_a_complete_disk_is_not_written_again(both: Both):
    killed(both, "attach", 2, "failover", "web01")
    (vm,) = both.vms().values()
    first = both.site.file("web01", int(min(vm["disks"])))
    before = first.stat().st_mtime_ns

    both.done()

    assert first.stat().st_mtime_ns == before
    assert both.equal("web01")


def test_there_are_never_two_unless_they_are_asked_for(both: Both):
    both.done()

    assert both.refused()["reason"] == "ALREADY_EXISTS"
    assert "is complete" in both.refused("--clean-up")["message"]
    assert list(both.vms()) == ["web01"]
    second = both.done("--force")
    assert sorted(both.vms()) == ["web01", second["vm"]]
    assert both.equal(second["vm"])
    assert both.refused()["reason"] == "ALREADY_EXISTS"


def test_a_vm_that_was_deleted_at_the_vcenter_is_forgotten(both: Both):
    first, second = both.done(), both.done("--force")
    with connected(both.site) as session:
        for name in (second["vm"], first["vm"]):
            assert "web01" in both.refused()["message"]
            vm = session.vm(name)
            wait(vm.PowerOffVM_Task())
            wait(vm.Destroy_Task())
            assert both.done("--clean-up") == {"removed": False}

    both.done()

    assert list(both.vms()) == ["web01"]


def test_a_clone_is_not_taken_for_ours(both: Both):
    killed(both, "start", 1, "failover", "web01")
    with connected(both.site) as session:
        ours = next(one for one in session.vm("web01").config.extraConfig if one.key == MARKER)
        clone = session.vm(APPLIANCE_VM)
        session.reconfigure(clone, extraConfig=[vmodl.option.OptionValue(key=MARKER, value=ours.value)])
        for words in ((), ("--clean-up",)):
            assert "appliance-vm and web01 all bear the mark" in both.refused(*words)["message"]
        session.reconfigure(clone, extraConfig=[vmodl.option.OptionValue(key=MARKER, value="")])

    both.done()


def test_what_made_nothing_holds_nobody_to_its_point(both: Both):
    both.site.order("space", bytes=0)
    both.refused("--point", 1)

    assert both.done("--clean-up") == {"removed": False}
    assert both.refused("--point", 9)["reason"] == "NOT_FOUND"


def test_another_vm_of_that_name_is_left_alone(both: Both):
    both.done()
    for file in (both.pair.folder / "appliance-state" / "failovers" / TENANT).glob("*.json"):
        file.unlink()

    assert "a VM web01 is there already" in both.refused()["message"]
    assert both.done("--clean-up", "--test") == {"removed": False}
    assert list(both.vms()) == ["web01"]


def test_a_test_is_removed_by_itself_and_leaves_a_signed_result(both: Both):
    report = both.done("--test")

    assert (both.vms(), both.site.attached(), report["removed"]) == ({}, [], True)
    content = Path(report["result"]).read_bytes()
    authority = x509.load_pem_x509_certificate((both.pair.folder / "agent" / "ca.crt").read_bytes())
    signed = check(content, RESULT_KIND, [fingerprint_of(authority)])
    assert (signed.body["point"], signed.body["running"], signed.body["test"]) == (1, True, True)
    with pytest.raises(DamagedError):
        check(content.replace(b'"point":1', b'"point":2'), RESULT_KIND, [fingerprint_of(authority)])


def test_a_test_is_isolated_and_beside_the_real_one(both: Both):
    both.done()

    report = both.done("--test", "--keep")

    vms = both.vms()
    assert vms.pop("web01")["networks"] == ["NetworkBackingInfo"]
    assert list(vms) == [report["vm"]]
    assert vms[report["vm"]]["networks"] == ["DistributedVirtualPortBackingInfo"]
    assert both.equal(report["vm"])
    assert both.done("--clean-up", "--test") == {"removed": True}
    assert list(both.vms()) == ["web01"]


def test_a_test_that_fails_leaves_nothing(both: Both):
    both.site.order("fault", method="PowerOnVM_Task", fault="EncryptionKeyRequired", count=1)

    assert "starting" in both.refused("--test")["message"]

    assert (both.vms(), both.site.attached()) == ({}, [])


@pytest.mark.parametrize(("step", "number"), [("stop", 1), ("after stop", 1), ("delete", 1), ("after delete", 1)])
def test_a_test_killed_while_it_is_removed(both: Both, step: str, number: int):
    killed(both, step, number, "failover", "web01", "--test")

    both.done("--clean-up", "--test")

    assert (both.vms(), both.site.attached()) == ({}, [])


def test_the_native_provider_makes_the_keys(both: Both):
    text = both.pair.config.read_text()
    both.pair.config.write_text(text.replace(STANDARD_PROVIDER, NATIVE_PROVIDER))
    try:
        note = both.done("--plan")["findings"][0]
        both.done()
    finally:
        both.pair.config.write_text(text)

    assert (note["blocks"], "derived on the hosts" in note["what"]) == (False, True)
    (vm,) = both.vms().values()
    assert {key.providerId.id for key in [vm["home"], *vm["disks"].values()]} == {NATIVE_PROVIDER}
    assert both.equal("web01")


def test_a_network_or_a_place_that_is_not_there(both: Both):
    text = both.pair.config.read_text()
    try:
        for old, new, words in (
            (f'network = "{NETWORK}"', 'network = "nowhere"', "network nowhere is not at the vCenter"),
            ('datastore = "LocalDS_0"', 'datastore = "gone"', "datastore gone is not at the vCenter"),
            (f'key_provider = "{STANDARD_PROVIDER}"', 'key_provider = "other"', "key provider other is not at"),
        ):
            both.pair.config.write_text(text.replace(old, new))
            assert words in both.refused()["message"]
    finally:
        both.pair.config.write_text(text)
    assert both.vms() == {}


def killed(both: Both, step: str, number: int, *words: object) -> None:
    program = (sys.executable, "-m", "tests.end_to_end.cut_off", step, number)
    process = start(program, both.pair.config, *words)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 137, (out, err)

"""``drill`` for real: a small Linux is sealed as a point, and boots from it under qemu."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.errors import EXIT_NOT_FOUND, EXIT_OK, EXIT_REFUSED, EXIT_USAGE
from common.grain import GRAIN_BYTES
from common.ids import PointNumber
from target_appliance.drill.result import KIND
from target_appliance.identity.authority import Authority
from target_appliance.identity.signing import check, fingerprint_of
from target_appliance.kms import registry
from target_appliance.recovery.vault import Vault
from target_appliance.store.posix import PosixStore
from tests.architecture.tree import TOP
from tests.fakes.replica import DISK, REPLICA, TENANT, World, spec
from tests.lab import bootable
from tests.unit.target_appliance.cli.conftest import Outcome, Site, fresh

QUICK = ("--memory-mib", 256, "--processors", 1)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A replica with two points: one that boots, and one whose kernel is gone."""
    assert bootable.missing() == [], "install these packages"
    folder = tmp_path_factory.mktemp("drill")
    bootable.image(folder / "disk.raw", bootable.kernel_of(TOP / "build" / "boot"))
    content = (folder / "disk.raw").read_bytes()
    (folder / "disk.raw").unlink()
    grains = {at // GRAIN_BYTES: content[at : at + GRAIN_BYTES] for at in range(0, len(content), GRAIN_BYTES)}
    held = {grain: data for grain, data in grains.items() if data.strip(b"\0")}
    made = fresh(folder)
    made.done("init")
    made.done("tenants", "add", TENANT, "--out", folder / "agent")
    config, clock = made.config, SystemClock()
    store, kms = PosixStore(config.store_dir), registry.create(config.kms, clock)
    vault = Vault(store, kms, clock)
    world = World(store, kms, clock, vault)
    disk = spec(capacity_bytes=len(content))
    world.sync({disk: held})
    world.sync({disk: {0: held[0]}})
    assert world.read(PointNumber(1), DISK) == content
    yield made
    vault.keyring.close()
    kms.close()
    store.close()


def drilled(site: Site, *words: object) -> Outcome:
    return site.run("drill", "web01", *QUICK, *words, "--json")


def test_a_point_boots_and_the_signed_result_says_so(site: Site, tmp_path: Path) -> None:
    picture = tmp_path / "screen.ppm"
    before = {path for path in site.folder.rglob("*") if "drills" not in path.parts}
    outcome = drilled(site, "--point", 1, "--expect", bootable.GREETING, "--picture", picture, "--timeout", "4m")
    assert outcome.code == EXIT_OK, outcome
    told = outcome.json
    authority = Authority.open(site.config.authority_dir, "keysapart.lab", SystemClock())
    signed = check(Path(told["result"]).read_bytes(), KIND, [fingerprint_of(authority.held.ca.certificate)])
    assert (signed.body["came_up"], signed.body["point"], signed.body["replica"]) == (True, 1, REPLICA)
    assert picture.read_bytes().startswith(b"P6\n")
    assert picture.stat().st_mode & 0o077 == 0
    after = {path for path in site.folder.rglob("*") if "drills" not in path.parts}
    assert {path.name for path in after - before} <= {"signer.pem"}, "it leaves nothing but its result"
    audit = "".join(path.read_text() for path in sorted(site.config.audit_dir.glob("*.jsonl")))
    assert json.loads(audit.splitlines()[-1])["facts"] == {"command": "drill", "point": 1, "came_up": True}
    again = drilled(site, "--point", 1, "--expect-picture", picture, "--timeout", "4m")
    assert again.code == EXIT_OK, again


def test_a_point_that_does_not_boot_is_told_and_signed(site: Site) -> None:
    outcome = drilled(site, "--point", 2, "--timeout", "5s", "--accelerator", "tcg")
    assert outcome.code == EXIT_REFUSED, outcome
    assert outcome.json["came_up"] is False
    assert Path(outcome.json["result"]).exists()


def test_uefi_starts_with_variables_of_its_own(site: Site) -> None:
    """It tells on the serial port what it tries to load."""
    words = ("--firmware", "uefi", "--expect", "BdsDxe:", "--timeout", "4m", "--accelerator", "tcg")
    outcome = drilled(site, "--point", 1, *words)
    assert outcome.code == EXIT_OK, outcome


def test_refusals(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").write_text("mine")
    site.refused(EXIT_USAGE, "drill", "web01", "--firmware", "coreboot")
    site.refused(EXIT_USAGE, "drill", "web01", "--accelerator", "xen")
    site.refused(EXIT_USAGE, "drill", "web01", "--expect-picture", tmp_path / "there")
    site.refused(EXIT_REFUSED, "drill", "web01", "--picture", tmp_path / "there")
    site.refused(EXIT_NOT_FOUND, "drill", "web01", "--point", 9)
    monkeypatch.setenv("PATH", str(tmp_path))
    site.refused(EXIT_NOT_FOUND, "drill", "web01")


def test_a_dry_run_starts_nothing(site: Site) -> None:
    told = site.done("drill", "web01", "--point", 1, "--dry-run")
    assert told == {"replica": REPLICA, "point": 1, "disks": ["disk-2000"], "dry_run": True}


def test_an_erased_tenant_has_no_results_left(site: Site, tmp_path: Path) -> None:
    copy = Site(shutil.copytree(site.folder, tmp_path / "copy"))
    folder = copy.config.state_dir / "drills" / TENANT
    folder.mkdir(parents=True, exist_ok=True)
    copy.done("tenants", "erase", TENANT, "--yes", "--receipt", tmp_path / "receipt")
    assert not folder.exists()

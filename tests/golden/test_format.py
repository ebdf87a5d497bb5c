"""The format does not change: a store made today equals the one checked in, and reads as it did."""

import hashlib
import json
import subprocess
import sys

import pytest

from common.grain import GRAIN_BYTES, ZERO_GRAIN
from target_appliance.recovery import vm_file
from target_appliance.recovery.vault import Vault
from target_appliance.store.posix import PosixStore
from tests.fakes.clock import ManualClock
from tests.fakes.replica import REPLICA, TENANT, vm_configuration
from tests.golden.make_format import FOLDER, GoldenKms, make, vectors
from tests.second_reader.reader import Keys, Replica, read_vm

STORE = FOLDER / "store"
VECTORS = json.loads((FOLDER / "vectors.json").read_text())
REPLICA_FOLDER = STORE / "tenants" / TENANT / "replicas" / REPLICA
PLACES = [(point, disk) for point in (1, 2, 3) for disk in (2000, 2001)]


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_store_made_today_is_the_one_checked_in(tmp_path):
    world = make(tmp_path)
    world.vault = Vault(PosixStore(tmp_path), world.kms, world.clock)

    world.read(1)  # the first read makes the lock that readers hold

    assert files(tmp_path) == files(STORE)
    assert vectors(world) == VECTORS


def test_it_is_small():
    assert sum(map(len, files(FOLDER).values())) < 300 << 10


def expected(point, disk):
    return VECTORS["disks"][str(disk)]["points"][str(point)]["grains"]


@pytest.mark.parametrize(("point", "disk"), PLACES)
def test_our_reader_reads_it(point, disk):
    vault = Vault(PosixStore(STORE), GoldenKms(), ManualClock())
    found = {}
    with vault.view(TENANT, REPLICA, disk, point) as view:
        for window in view.windows(64):
            for place, data in enumerate(view.load(window)):
                if data not in (None, ZERO_GRAIN):
                    found[str(window.first + place)] = hashlib.sha256(data).hexdigest()

    assert found == expected(point, disk)


@pytest.mark.parametrize(("point", "disk"), PLACES)
def test_the_second_reader_reads_it(point, disk):
    dek = bytes.fromhex(VECTORS["disks"][str(disk)]["dek"])
    found = {
        str(grain): hashlib.sha256(data.ljust(GRAIN_BYTES, b"\0")).hexdigest()
        for grain, data in Replica(REPLICA_FOLDER).grains(point, disk, dek)
        if data.strip(b"\0")
    }

    assert found == expected(point, disk)


@pytest.mark.parametrize(
    ("point", "told"), [(1, None), (2, vm_configuration()), (3, vm_configuration(cpus=4, vtpm=True))]
)
def test_both_read_the_vms_configuration(point, told):
    vault = Vault(PosixStore(STORE), GoldenKms(), ManualClock())
    keys = Keys(REPLICA, 2000, bytes.fromhex(VECTORS["disks"]["2000"]["dek"]))

    assert vm_file.read(vault.store, vault.keyring, TENANT, REPLICA, point) == told
    assert read_vm(REPLICA_FOLDER / "points" / f"{point:06d}", keys, point) == (told and told.as_members())


@pytest.mark.parametrize("with_key", [False, True])
def test_it_verifies(with_key):
    vault = Vault(PosixStore(STORE), GoldenKms(), ManualClock())

    report = vault.verify(TENANT, REPLICA, with_key=with_key)

    assert report.findings == ()
    assert report.points == (1, 2, 3)


@pytest.mark.parametrize(("point", "disk"), PLACES)
def test_qemu_reads_its_structure(point, disk):
    path = REPLICA_FOLDER / "points" / f"{point:06d}" / f"disk-{disk}.vmdk"

    def qemu(*words):
        return subprocess.run(
            ["qemu-img", *words, path], capture_output=True, text=True, check=True, timeout=120
        ).stdout

    chain = json.loads(qemu("info", "--backing-chain", "--output=json"))
    assert len(chain) == point
    assert "No errors were found" in qemu("check")
    held = json.loads(qemu("map", "--output=json"))
    assert sum(area["length"] for area in held) == chain[0]["virtual-size"]
    assert chain[0]["virtual-size"] == VECTORS["disks"][str(disk)]["points"][str(point)]["capacity_bytes"]


def test_the_second_reader_as_a_command(tmp_path):
    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "tests.second_reader", *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    dek = VECTORS["disks"]["2000"]["dek"]
    out = tmp_path / "disk.raw"
    done = run(REPLICA_FOLDER, 3, 2000, dek, out)
    assert (done.returncode, done.stdout) == (0, "5 grains\n")
    assert out.stat().st_size == VECTORS["disks"]["2000"]["points"]["3"]["capacity_bytes"]

    wrong = run(REPLICA_FOLDER, 3, 2000, "00" * 32, tmp_path / "other.raw")
    assert wrong.returncode == 1
    assert "not authentic" in wrong.stderr
    assert run(REPLICA_FOLDER).returncode == 2

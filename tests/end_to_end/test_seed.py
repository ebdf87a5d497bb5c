"""A replica that starts from images brought by hand: the first sync compares, and sends what differs."""

import os
import random
import shutil
from pathlib import Path

import pytest

from tests.end_to_end import qemu
from tests.end_to_end.inside import inside
from tests.end_to_end.pair import TENANT, Pair
from tests.end_to_end.test_wire_bytes import changed, compressed
from tests.lab.inventory import instance_uuid

pytestmark = pytest.mark.lab

VM = "web01"
GRAIN = 65536
MOST = 1.05
FRAMES = 4096
"""What frames, acknowledgements and columns may add when next to nothing is sent."""


@pytest.mark.parametrize(
    "forms",
    [
        ("raw", "streamOptimized"),
        ("monolithicSparse", "monolithicFlat"),
        ("twoGbMaxExtentSparse", "twoGbMaxExtentFlat"),
    ],
    ids="-and-".join,
)
def test_a_sync_onto_a_seed_sends_what_differs(embedded_pair: Pair, tmp_path: Path, forms: tuple[str, str]) -> None:
    pair, rng = embedded_pair, random.Random(20261124)
    disks = {key: pair.lab.guest(VM, key) for key in (2000, 2001)}
    for disk in disks.values():
        for place in rng.sample(range(disk.size // GRAIN), 30):
            disk.write(place * GRAIN, rng.choice((rng.randbytes(GRAIN), b"text " * 9000)))
    old = pair.lab.image(VM, tmp_path / "old")
    replica = instance_uuid(VM)
    options = [
        word for key, form in zip(disks, forms, strict=True) for word in ("--disk", f"{key}={brought(old[key], form)}")
    ]
    made = pair.done("seed", "import", replica, "--tenant", TENANT, "--vm-name", VM, *options)
    assert made["point"] == 1

    for disk in disks.values():
        for place in rng.sample(range(disk.size // GRAIN), 12):
            disk.write(place * GRAIN + 512, rng.choice((rng.randbytes(2048), b"words " * 900)))
    disks[2000].discard(0, 4 * GRAIN)
    planned = pair.source("plan", VM, "--json").json
    assert {(disk["kind"], disk["rule"]) for disk in planned["disks"]} == {("compare", "imported-seed")}
    report = pair.sync(VM)
    live = pair.lab.image(VM, tmp_path / "live")
    differing = changed(old, live)

    assert (report["point"], report["kind"], report["replica"]) == (2, "compare", replica)
    assert {disk["rule"] for disk in report["disks"]} == {"imported-seed"}
    assert sum(disk["grains_sent"] for disk in report["disks"]) == len(differing)
    assert report["bytes_sent"] <= MOST * sum(map(compressed, differing)) + FRAMES
    with inside(pair) as vault:
        for point, images in ((1, old), (2, live)):
            for key, image in images.items():
                out = tmp_path / f"{point}-{key}.raw"
                vault.export(replica, key, point, "raw", out)
                qemu.compare(image, out, "raw")
        assert vault.verify(replica, with_key=True).findings == ()
    # From here on tracking is trusted as ever.
    disks[2001].write(0, b"after the seed")
    assert pair.sync(VM)["kind"] == "delta"


def brought(raw: Path, form: str) -> Path:
    """The image as somebody carries it here: other file, other form."""
    folder = raw.parent / form
    folder.mkdir()
    if form == "raw":
        return Path(shutil.copy(raw, folder / "disk.img"))
    done = qemu.qemu_img("convert", "-O", "vmdk", "-o", f"subformat={form}", raw, folder / "disk.vmdk")
    assert done.returncode == 0, done.stderr
    return folder / "disk.vmdk"


def test_a_seed_of_a_smaller_disk_and_of_one_disk_only(embedded_pair: Pair, tmp_path: Path) -> None:
    pair, rng = embedded_pair, random.Random(7)
    disk = pair.lab.guest(VM, 2000)
    for place in rng.sample(range(disk.size // GRAIN), 40):
        disk.write(place * GRAIN, rng.randbytes(GRAIN))
    small = pair.lab.image(VM, tmp_path / "old")[2000]
    os.truncate(small, disk.size // 2 + 512)
    pair.done("seed", "import", instance_uuid(VM), "--tenant", TENANT, "--disk", f"2000={small}")
    report = pair.sync(VM)
    assert (report["point"], report["kind"]) == (2, "compare")
    assert [(one["key"], one["kind"], one["rule"]) for one in report["disks"]] == [
        (2000, "compare", "imported-seed"),
        (2001, "full", "new-disk"),
    ]
    with inside(pair) as vault:
        for key, image in pair.lab.image(VM, tmp_path / "live").items():
            vault.export(report["replica"], key, 2, "raw", tmp_path / f"{key}.raw")
            qemu.compare(image, tmp_path / f"{key}.raw", "raw")


def test_a_replica_that_was_synced_takes_no_seed(embedded_pair: Pair, tmp_path: Path) -> None:
    pair = embedded_pair
    replica = pair.sync(VM)["replica"]
    image = pair.lab.image(VM, tmp_path / "old")[2000]
    refused = pair.target("seed", "import", replica, "--tenant", TENANT, "--disk", f"2000={image}", "--json")
    assert refused.code == 3
    assert "has points already" in refused.error["message"]
    assert pair.sync(VM)["kind"] == "delta"

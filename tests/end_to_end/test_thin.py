"""What stands in the store, as qemu reads its structure; and a thin disk costs what it holds."""

import random
from pathlib import Path

import pytest

from tests.end_to_end import qemu
from tests.end_to_end.conftest import DISK_MIB
from tests.end_to_end.inside import inside
from tests.end_to_end.pair import Pair
from tests.lab.site import Lab

pytestmark = pytest.mark.lab

GRAIN = 65536
MIB = 1 << 20
GIB = 1 << 30


def size_of(folder: Path) -> int:
    """Bytes that a folder's files take, by their lengths and not by what a file system makes of them."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def depths(path: Path, grains: int) -> list[tuple[int, bool] | None]:
    """For each grain at which depth of the backing chain qemu finds it and whether as zeros; None for a hole."""
    found: list[tuple[int, bool] | None] = [None] * grains
    for extent in qemu.mapped(path):
        assert extent["start"] % GRAIN == 0
        if extent.get("present", True) and (extent["data"] or extent["zero"]):
            for grain in range(extent["start"] // GRAIN, -(-(extent["start"] + extent["length"]) // GRAIN)):
                found[grain] = (extent["depth"], extent["zero"])
    return found


def test_qemu_reads_every_disk_of_a_chain(embedded_pair: Pair) -> None:
    lab = embedded_pair.lab
    rng = random.Random(8)
    replica = embedded_pair.sync("web01")["replica"]
    grains = {key: -(-lab.guest("web01", key).size // GRAIN) for key in (2000, 2001)}
    full = {key: lab.guest("web01", key).read(0, lab.guest("web01", key).size) for key in grains}
    # Which point last changed a grain, and whether to zeros: what the chain must show.
    last: dict[int, dict[int, tuple[int, bool]]] = {
        key: {grain: (1, False) for grain in range(grains[key]) if any(full[key][grain * GRAIN : (grain + 1) * GRAIN])}
        for key in grains
    }
    for point in (2, 3, 4):
        for key in grains:
            held = sorted(last[key])
            for grain in rng.sample(held, 6):
                zeros = rng.random() < 0.4 and not last[key][grain][1]
                size = min(GRAIN, lab.guest("web01", key).size - grain * GRAIN)
                lab.guest("web01", key).write(grain * GRAIN, bytes(size) if zeros else rng.randbytes(size))
                last[key][grain] = (point, zeros)
        assert embedded_pair.sync("web01")["point"] == point

    for point in (1, 2, 3, 4):
        folder = embedded_pair.point_folder(replica, point)
        for key in grains:
            path = folder / f"disk-{key}.vmdk"
            chain = qemu.info(path, chain=True)
            assert [Path(one["filename"]).resolve() for one in chain] == [
                embedded_pair.point_folder(replica, number) / path.name for number in range(point, 0, -1)
            ]
            assert {one["virtual-size"] for one in chain} == {lab.guest("web01", key).size}
            assert {one["format-specific"]["data"]["create-type"] for one in chain} == {"streamOptimized"}
            qemu.check(path)
            qemu.mapped(path)
    for key, count in grains.items():
        seen = depths(embedded_pair.point_folder(replica, 4) / f"disk-{key}.vmdk", count)
        expected = [
            None if (told := last[key].get(grain)) is None else (4 - told[0], told[1]) for grain in range(count)
        ]
        assert seen == expected


@pytest.fixture
def thin_lab(tmp_path: Path) -> Lab:
    """Not started yet: a test makes a disk in its folder first."""
    return Lab(tmp_path / "lab", disk_mib=DISK_MIB)


def make_thin(lab: Lab, size: int) -> Path:
    """An empty disk of plain01 for a lab to find."""
    base = lab.folder / "disks" / "plain01" / "2000" / "base.raw"
    base.parent.mkdir(parents=True)
    with base.open("wb") as disk:
        disk.truncate(size)
    return base


def test_a_thin_disk_costs_what_it_holds(thin_lab: Lab) -> None:
    rng = random.Random(64)
    make_thin(thin_lab, 64 * GIB)
    with thin_lab, Pair(thin_lab, kms="embedded") as pair:
        disk = thin_lab.guest("plain01", 2000)
        places = rng.sample(range(64 * GIB // MIB), 100)
        for place in places:
            disk.write(place * MIB, rng.randbytes(MIB))
        report = pair.sync("plain01")
        stored = size_of(pair.point_folder(report["replica"], 1))
        print(f"64 GiB with 100 MiB of random data: stored {stored} bytes, read {report['bytes_read']}")
        assert report["bytes_read"] == 100 * MIB
        assert 100 * MIB < stored <= 110 * MIB
        assert report["stored_bytes"] == stored
        path = pair.point_folder(report["replica"], 1) / "disk-2000.vmdk"
        assert qemu.info(path)["virtual-size"] == 64 * GIB
        qemu.check(path)
        held = [(one["start"], one["length"]) for one in qemu.mapped(path) if one["data"]]
        assert sum(length for _, length in held) == 100 * MIB
        assert {start // MIB for start, _ in held} <= set(places)

        disk.write(64 * GIB - 512, b"e" * 512)
        delta = pair.sync("plain01")
        assert (delta["kind"], delta["bytes_read"]) == ("delta", GRAIN)
        assert size_of(pair.point_folder(delta["replica"], 2)) < MIB


def test_a_disk_of_several_extents(thin_lab: Lab, tmp_path: Path) -> None:
    size = 128 * GIB + 3 * 512
    make_thin(thin_lab, size)
    with thin_lab, Pair(thin_lab, kms="embedded") as pair:
        disk = thin_lab.guest("plain01", 2000)
        for offset in (0, 64 * GIB - GRAIN, 64 * GIB, 128 * GIB - 512, size - 512):
            disk.write(offset, random.Random(offset).randbytes(512))
        replica = pair.sync("plain01")["replica"]
        disk.write(64 * GIB - 512, b"b" * 1024)
        disk.write(size - 1024, b"c" * 1024)
        assert pair.sync("plain01")["kind"] == "delta"
        image = thin_lab.image("plain01", tmp_path / "image")[2000]
        path = pair.point_folder(replica, 2) / "disk-2000.vmdk"
        assert [one["virtual-size"] for one in qemu.info(path, chain=True)] == [size, size]
        assert sum(one["length"] for one in qemu.mapped(path) if one["depth"] == 0 and one["data"]) == 2 * GRAIN + 1536
        assert size_of(pair.point_folder(replica, 1)) < MIB
        with inside(pair) as vault:
            vault.export(replica, 2000, 2, "raw", tmp_path / "out.raw")
        qemu.compare(image, tmp_path / "out.raw", "raw")

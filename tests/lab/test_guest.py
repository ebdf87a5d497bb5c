"""The guest's view of a disk, with and without layers above the base, checked against a plain bytearray."""

import random
from pathlib import Path

import pytest

from tests.lab.content import make_disk
from tests.lab.errors import GuestError
from tests.lab.guest import GuestDisk

SIZE = 3 * 65536 + 512


@pytest.fixture
def disk(tmp_path: Path) -> GuestDisk:
    make_disk(tmp_path / "vm" / "2000" / "base.raw", SIZE, "seed")
    return GuestDisk(tmp_path / "vm" / "2000")


def _push(folder: Path, name: str) -> None:
    """What the vCenter does when it takes a snapshot."""
    (folder / name).touch()
    with (folder / name).open("r+b") as layer:
        layer.truncate(SIZE)
    (folder / name).with_suffix(".map").touch()
    layers = folder / "layers"
    names = layers.read_text() if layers.exists() else "base.raw\n"
    layers.write_text(names + name + "\n")


@pytest.mark.parametrize("snapshots", [0, 1, 3])
def test_reads_and_image_show_what_was_written(disk: GuestDisk, tmp_path: Path, snapshots: int):
    folder = tmp_path / "vm" / "2000"
    rng = random.Random(snapshots)
    model = bytearray(disk.read(0, SIZE))
    for round_ in range(40):
        if round_ % 10 == 5 and round_ // 10 < snapshots:
            _push(folder, f"delta-{round_:06}.raw")
        offset = rng.randrange(SIZE)
        length = rng.randrange(min(SIZE - offset, 90_000) + 1)
        if rng.random() < 0.3:
            disk.discard(offset, length)
            model[offset : offset + length] = bytes(length)
        else:
            data = rng.randbytes(length)
            disk.write(offset, data)
            model[offset : offset + length] = data
        at = rng.randrange(SIZE)
        assert disk.read(at, min(5000, SIZE - at)) == model[at : at + 5000]
    disk.image(tmp_path / "image.raw")
    assert (tmp_path / "image.raw").read_bytes() == model


def test_load_replaces_everything_and_stays_sparse(disk: GuestDisk, tmp_path: Path):
    image = tmp_path / "image.raw"
    with image.open("wb") as out:
        out.truncate(SIZE)
        out.seek(65536)
        out.write(b"loaded")
    disk.load(image)
    assert disk.read(0, SIZE) == image.read_bytes()
    assert (tmp_path / "vm" / "2000" / "base.raw").stat().st_blocks * 512 <= 65536
    (tmp_path / "short.raw").write_bytes(b"short")
    with pytest.raises(GuestError, match="has 5 bytes"):
        disk.load(tmp_path / "short.raw")


@pytest.mark.parametrize(("offset", "length"), [(SIZE, 1), (-1, 1), (SIZE - 1, 2)])
def test_nothing_is_written_past_the_disk(disk: GuestDisk, offset: int, length: int):
    with pytest.raises(GuestError, match="are not on a disk"):
        disk.write(offset, bytes(length))
    assert disk.size == SIZE


def test_a_missing_disk_is_named(tmp_path: Path):
    with pytest.raises(GuestError, match="web09 has no disk 2000"):
        GuestDisk(tmp_path / "web09" / "2000")

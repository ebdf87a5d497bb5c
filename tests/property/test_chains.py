"""Random chains: our reader, the second reader and qemu agree with a model in plain bytes, at every point."""

import random
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.grain import GRAIN_BYTES, digest, grain_count
from target_appliance.recovery.export.forms import Form
from target_appliance.recovery.types import SyncKind
from target_appliance.store.posix import PosixStore
from tests.fakes.replica import DISK, OTHER_DISK, REPLICA, TENANT, World, grain_bytes, spec
from tests.second_reader.reader import Replica

CONTENT = st.one_of(
    st.none(),
    st.integers(0, 5).map(grain_bytes),
    st.integers(0, 5).map(lambda seed: grain_bytes(seed, random_bytes=True)),
)
SIZES = st.integers(1, 40 * 128).map(lambda sectors: sectors * 512)
CHANGES = st.dictionaries(st.integers(0, 60), CONTENT, max_size=12)
STEP = st.tuples(
    st.sampled_from(SyncKind), CHANGES, CHANGES, st.integers(0, 3 * 128), st.booleans(), st.integers(1, 20)
)


def build(world, size, steps):
    """Commit the steps; a disk never shrinks, and may be left out."""
    world.sync({spec(DISK, size): {}, spec(OTHER_DISK, 5 * 512): {}})
    for kind, grains, others, growth, with_other, batch in steps:
        size += growth * 512 if kind is not SyncKind.DELTA else 0
        changes = {spec(DISK, size, kind): clipped(grains, size)}
        if with_other:
            changes[spec(OTHER_DISK, 5 * 512, kind)] = clipped(others, 5 * 512)
        world.sync(changes, kind, batch=batch)


def clipped(grains, size):
    return {grain: data for grain, data in grains.items() if grain < grain_count(size)}


@settings(max_examples=20)
@given(SIZES, st.lists(STEP, max_size=6), st.sampled_from(Form))
def test_every_reader_agrees_with_the_model(size, steps, form):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "store").mkdir()
        store = PosixStore(folder / "store")
        world = World(store)
        build(world, size, steps)
        second = Replica(folder / "store" / "tenants" / TENANT / "replicas" / REPLICA)
        for point, disks in world.model.items():
            for disk in disks:
                image = world.image(point, disk)
                assert world.read(point, disk) == image
                check_manifest(world, point, disk, image)
                out = folder / "second.raw"
                second.write(point, disk, world.dek(disk), out)
                assert out.read_bytes() == image
                out.unlink()
        newest = world.vault.newest(TENANT, REPLICA)
        check_export(world, newest.number, folder, form)
        for disk in newest.disks:
            check_structure(folder / "store", newest.number, disk.spec.key)
        assert world.vault.verify(TENANT, REPLICA, with_key=True).findings == ()
        store.close()


def check_manifest(world, point, disk, image):
    """Every grain that is listed has its digest, every other one is zeros."""
    listed = {}
    for indices, digests in world.vault.manifest(TENANT, REPLICA, disk, point=point):
        listed |= dict(zip(indices.tolist(), map(bytes, digests), strict=True))
    for grain in range(grain_count(len(image))):
        data = image[grain * GRAIN_BYTES : (grain + 1) * GRAIN_BYTES].ljust(GRAIN_BYTES, b"\0")
        assert listed.pop(grain, digest(bytes(GRAIN_BYTES))) == digest(data)
    assert listed == {}


def qemu(*words):
    return subprocess.run(
        ["qemu-img", *map(str, words)], capture_output=True, text=True, check=True, timeout=120
    ).stdout


def check_export(world, point, folder, form):
    model = folder / "model.raw"
    model.write_bytes(world.image(point))
    kind = "raw" if form is Form.RAW else "vmdk"
    out, *_ = world.vault.export(TENANT, REPLICA, DISK, point, form=form, path=folder / f"export.{kind}")
    assert "identical" in qemu("compare", "-f", "raw", "-F", kind, model, out)


def check_structure(store, point, disk):
    path = store / "tenants" / TENANT / "replicas" / REPLICA / "points" / f"{point:06d}" / f"disk-{disk}.vmdk"
    assert "file format: vmdk" in qemu("info", "--backing-chain", path)
    assert "No errors were found" in qemu("check", path)
    assert qemu("map", "--output=json", path).startswith("[")


@pytest.mark.parametrize("seed", [1, 2])
def test_twenty_deltas_under_a_guest_that_writes_at_random(seed, tmp_path):
    """Writes that are aligned or not, zeros, the same bytes again, the last sector."""
    rng = random.Random(seed)
    size = 50 * GRAIN_BYTES + 7 * 512
    image = bytearray(size)
    store = PosixStore(tmp_path)
    world = World(store)
    images = {}
    for point in range(1, 22):
        touched = set()
        for _ in range(rng.randrange(12)):
            length = min(rng.choice([512, 4096, 70_000, 200_000]), size)
            offset = rng.choice([rng.randrange(size - length), size - 512])
            data = rng.choice([bytes(length), rng.randbytes(length), bytes(image[offset : offset + length])])
            image[offset : offset + length] = data[: size - offset]
            touched |= set(range(offset // GRAIN_BYTES, grain_count(min(offset + length, size))))
        kind = SyncKind.FULL if point == 1 else SyncKind.DELTA
        grains = {
            grain: bytes(image[grain * GRAIN_BYTES : (grain + 1) * GRAIN_BYTES]).ljust(GRAIN_BYTES, b"\0")
            for grain in touched
        }
        changes = {grain: data if data.strip(b"\0") else None for grain, data in grains.items()}
        world.sync({spec(capacity_bytes=size, kind=kind): changes}, kind)
        images[point] = bytes(image)

    second = Replica(tmp_path / "tenants" / TENANT / "replicas" / REPLICA)
    for point in (21, 20, 10, 3, 1):
        assert world.read(point) == images[point]
        second.write(point, DISK, world.dek(), tmp_path / "second.raw")
        assert (tmp_path / "second.raw").read_bytes() == images[point]
        (tmp_path / "second.raw").unlink()
    store.close()
    shutil.rmtree(tmp_path / "tenants")

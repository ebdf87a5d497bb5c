"""Exports: complete or absent, never over something else, and refused in one sentence."""

import os
import stat
import subprocess

import pytest

from common.errors import (
    AlreadyExistsError,
    DamagedError,
    InvalidInputError,
    NotFoundError,
    StoreError,
    StoreFullError,
)
from common.grain import GRAIN_BYTES
from common.output_file import Output, translate
from target_appliance.recovery.export.forms import Form
from target_appliance.recovery.types import SyncKind
from tests.fakes.replica import DISK, REPLICA, TENANT, World, grain_bytes, spec

SIZE = 600 * GRAIN_BYTES + 3 * 512
FORMS = pytest.mark.parametrize("form", list(Form))


@pytest.fixture(scope="module")
def world():
    world = World()
    world.sync(
        {spec(capacity_bytes=SIZE): {grain: grain_bytes(grain, random_bytes=grain % 2) for grain in (0, 1, 550)}}
    )
    world.sync({spec(capacity_bytes=SIZE, kind=SyncKind.DELTA): {1: None, 600: grain_bytes(6)}}, SyncKind.DELTA)
    return world


def export(world, form, path, point=2, **options):
    return world.vault.export(TENANT, REPLICA, DISK, point, form=form, path=path, **options)


@FORMS
@pytest.mark.parametrize("point", [1, 2])
def test_it_equals_the_disk(world, form, point, tmp_path):
    model = tmp_path / "model.raw"
    model.write_bytes(world.image(point))
    passed = []
    made = export(world, form, tmp_path / "out.vmdk", point, progress=passed.append)

    kind = "raw" if form is Form.RAW else "vmdk"
    words = ["qemu-img", "compare", "-f", "raw", "-F", kind, model, made[0]]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "Images are identical.\n")
    assert sum(passed) == SIZE
    assert min(passed) >= 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"model.raw", *(path.name for path in made)})
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    assert [path.name for path in made] == (["out.vmdk", "out-flat.vmdk"] if form is Form.FLAT else ["out.vmdk"])


@FORMS
def test_vmdks_check(world, form, tmp_path):
    made = export(world, form, tmp_path / "out.vmdk")
    if form is not Form.RAW:
        words = ["qemu-img", "info", made[0]]
        info = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
        expected = {Form.FLAT: "monolithicFlat", Form.SPARSE: "monolithicSparse", Form.STREAM: "streamOptimized"}
        assert f"create type: {expected[form]}" in info


def test_zeros_take_no_room(world, tmp_path):
    (raw,) = export(world, Form.RAW, tmp_path / "out.raw")

    assert raw.stat().st_size == SIZE
    assert raw.stat().st_blocks * 512 <= 5 * GRAIN_BYTES


@FORMS
def test_nothing_is_written_over(world, form, tmp_path):
    path = tmp_path / "out.vmdk"
    path.write_text("mine")
    with pytest.raises(AlreadyExistsError):
        export(world, form, path)
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AlreadyExistsError):
        export(world, form, path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.vmdk"]


def test_the_flat_file_is_not_written_over_either(world, tmp_path):
    (tmp_path / "out-flat.vmdk").write_text("mine")
    with pytest.raises(AlreadyExistsError, match="out-flat"):
        export(world, Form.FLAT, tmp_path / "out.vmdk")

    assert [entry.name for entry in tmp_path.iterdir()] == ["out-flat.vmdk"]


def test_a_name_that_was_taken_meanwhile_is_kept(tmp_path):
    path = tmp_path / "out"
    with Output(path) as output:
        path.write_text("mine")
        with pytest.raises(AlreadyExistsError):
            output.publish()

    assert path.read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@FORMS
def test_a_folder_must_be_there(world, form, tmp_path):
    with pytest.raises(NotFoundError, match="folder"):
        export(world, form, tmp_path / "absent" / "out.vmdk")


@pytest.mark.parametrize("form", [Form.FLAT, Form.SPARSE, Form.STREAM])
@pytest.mark.parametrize("name", ['a"b.vmdk', "a\nb.vmdk", "ü.vmdk"])
def test_names_that_cannot_stand_in_a_descriptor(world, form, name, tmp_path):
    with pytest.raises(InvalidInputError, match="descriptor"):
        export(world, form, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@FORMS
def test_damage_ends_the_export_and_leaves_nothing(form, tmp_path):
    world = World()
    world.sync({spec(): {grain: grain_bytes(grain) for grain in range(40)}})
    content = world.store.content(f"tenants/{TENANT}/replicas/{REPLICA}/points/000001/disk-2000.vmdk")
    content[len(content) // 2] ^= 1

    with pytest.raises(DamagedError, match=r"point 1, disk 2000, file disk-2000.vmdk at bytes \d+ to \d+"):
        export(world, form, tmp_path / "out.vmdk", 1)
    assert list(tmp_path.iterdir()) == []


def damaged(change):
    """A read of grain 3 after ``change`` was done to the only point's folder in the store."""
    world = World()
    world.sync({spec(): {3: grain_bytes(3), 4: None}})
    change(world.store, f"tenants/{TENANT}/replicas/{REPLICA}/points/000001")
    with world.vault.view(TENANT, REPLICA, DISK, 1) as view:
        return view.read(0, 10)


def set_entry(grain, value):
    def change(store, folder):
        content = store.content(f"{folder}/disk-2000.vmdk")
        directory = int.from_bytes(content[56:64], "little") * 512
        table = int.from_bytes(content[directory : directory + 4], "little") * 512
        content[table + 4 * grain : table + 4 * grain + 4] = value.to_bytes(4, "little")

    return change


def remove(name):
    def change(store, folder):
        del store._files[tuple(f"{folder}/{name}".split("/"))]

    return change


def cut(name, length):
    def change(store, folder):
        del store.content(f"{folder}/{name}")[length:]

    return change


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (set_entry(3, 0), "lacks grain 3"),
        (set_entry(3, 1), "lacks grain 3"),
        (set_entry(4, 0), "lacks grain 4"),
        (set_entry(3, 1 << 31), "past the end"),
        (set_entry(3, 2), "marker of grain 3"),
        (remove("disk-2000.vmdk"), "it is missing"),
        (remove("disk-2000.manifest"), "it is missing"),
        (remove("point.json"), "it is missing"),
        (cut("disk-2000.vmdk", 600), "footer"),
        (cut("disk-2000.manifest", 70), "length"),
        (cut("disk-2000.manifest", 10), "header"),
        (cut("disk-2000.manifest", 112), "does not open"),
    ],
)
def test_damage_is_named(change, what):
    with pytest.raises(DamagedError, match=what):
        damaged(change)


def test_a_chain_that_misses_a_point():
    world = World()
    for kind in (SyncKind.FULL, SyncKind.DELTA):
        world.sync({spec(kind=kind): {}}, kind)
    world.store.remove_tree(f"tenants/{TENANT}/replicas/{REPLICA}/points/000001")

    with pytest.raises(DamagedError, match="000001 is damaged: the point is missing"):
        world.read(2)


def test_what_the_medium_says(tmp_path):
    for code, kind in [(28, StoreFullError), (122, StoreFullError), (2, NotFoundError), (5, StoreError)]:
        assert type(translate(OSError(code, os.strerror(code)), tmp_path)) is kind


def test_a_reader_without_permission_is_told(world, tmp_path):
    with pytest.raises((StoreError, NotFoundError)):
        export(world, Form.RAW, tmp_path.joinpath("x" * 300))

import pytest

from common.errors import VCenterError
from common.grain import GRAIN_BYTES
from target_appliance.native import writer
from target_appliance.native.writer import RUN_BYTES, write_disk
from tests.fakes.replica import DISK, REPLICA, TENANT, World, grain_bytes, spec

CAPACITY = 100 * GRAIN_BYTES + 512


@pytest.fixture
def view():
    """A disk with grains apart, side by side for more than one run, and a last one that is cut."""
    world = World()
    grains = {0: grain_bytes(0), 2: grain_bytes(2)}
    grains |= {grain: grain_bytes(grain) for grain in range(10, 90)}
    grains[100] = grain_bytes(100)[:512] + bytes(GRAIN_BYTES - 512)
    world.sync({spec(capacity_bytes=CAPACITY): grains})
    with world.vault.view(TENANT, REPLICA, DISK, 1) as opened:
        yield opened, world.image(1)


@pytest.fixture
def node(tmp_path):
    path = tmp_path / "scsi-0:1"
    with path.open("wb") as file:
        file.truncate(CAPACITY)
    return path


def write(view, node, *, whole=True, failpoint=lambda _: None, progress=lambda _: None):
    return write_disk(view, node, progress, whole=whole, failpoint=failpoint)


def test_what_the_point_holds_is_written_and_nothing_else(view, node):
    opened, image = view
    steps, passed = [], []

    written = write(opened, node, failpoint=steps.append, progress=passed.append)

    assert node.read_bytes() == image
    assert written == 82 * GRAIN_BYTES + 512
    assert steps == ["write"] * (3 + -(-80 * GRAIN_BYTES // RUN_BYTES))
    assert sum(passed) == CAPACITY
    assert node.stat().st_blocks * 512 < written + GRAIN_BYTES


def test_writing_it_again_changes_nothing(view, node):
    opened, _ = view
    write(opened, node)
    before = node.read_bytes()
    write(opened, node)
    assert node.read_bytes() == before


@pytest.mark.parametrize("size", [CAPACITY - 512, CAPACITY + 512])
def test_a_device_of_another_size_is_not_written_to(view, node, size):
    with node.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(VCenterError, match=f"has {size} bytes"):
        write(view[0], node)
    assert not any(node.read_bytes())


def test_a_device_that_is_not_there(view, tmp_path):
    with pytest.raises(VCenterError, match="cannot be opened"):
        write(view[0], tmp_path / "gone")


def test_a_device_that_does_not_give_back_what_was_written(view, node, monkeypatch):
    monkeypatch.setattr(writer.os, "pread", lambda _descriptor, length, _offset: bytes(length))
    with pytest.raises(VCenterError, match="does not give back what was written at byte 0"):
        write(view[0], node, whole=False)


def test_a_datastore_that_is_full(view, node, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer.os, "pwrite", full)
    with pytest.raises(VCenterError, match="No space left on device"):
        write(view[0], node)

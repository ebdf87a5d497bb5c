"""What the deltas' guest says that it wrote is what happened to its file system."""

import dataclasses

import pytest

from benchmarks.deltas import ext4
from benchmarks.deltas.guest import QUICK, Guest
from benchmarks.deltas.writes import BLOCK_BYTES, common_part
from common.extent import total

SMALL = dataclasses.replace(
    QUICK, table_pages=64, page_writes=20, redo=1 << 18, log=1 << 16, append=1 << 15, rewrite=1 << 19
)


def test_the_steps_writes_make_the_new_image_of_the_old_one(tmp_path):
    guest = Guest(tmp_path, SMALL)
    replayed = bytearray(guest.fresh.read_bytes())
    steps = {}
    for step in guest.steps():
        for offset, data in step.writes:
            replayed[offset : offset + len(data)] = data
        assert replayed == guest.image.read_bytes(), step.name
        steps[step.name] = step

    assert list(steps) == ["package upgrade", "database", "log appends", "same bytes again", "delete and trim"]
    assert all(step.writes for step in steps.values())
    trimmed = steps["delete and trim"].discards
    assert total(trimmed) > 0
    assert common_part(trimmed, ext4.free(guest.image)) == trimmed
    # A step that changes nothing is reported all the same, as change tracking does.
    assert sum(len(data) for _, data in steps["same bytes again"].writes) >= SMALL.rewrite


def test_what_debugfs_does_not_do_is_told(tmp_path):
    (tmp_path / "root").mkdir()
    image = tmp_path / "image"
    ext4.make(image, 64 * 1024 * BLOCK_BYTES // 4, tmp_path / "root")
    with pytest.raises(RuntimeError, match="debugfs did not do all: rm: File not found"):
        ext4.change(image, ["rm /nothing"])
    with ext4.Files(image) as files, pytest.raises(RuntimeError, match="ext2fs_namei on image fails"):
        files.size("/nothing")
    ext4.check(image)

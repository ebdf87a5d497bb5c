import os
from pathlib import Path

import pytest

from common.errors import InternalError, SourceError
from common.extent import Extent
from source_agent.disk_read.device import DeviceDisk
from source_agent.disk_read.port import MOST_BYTES

SIZE = 8 << 20


@pytest.fixture
def image(tmp_path):
    """Data at both ends of a disk, a hole between."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.write(os.urandom(1 << 20))
        file.truncate(SIZE)
        file.seek(SIZE - 512)
        file.write(os.urandom(512))
    return path


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def opened(path, capacity=SIZE, release=lambda: None):
    return DeviceDisk(path, capacity, "disk 2000", release)


def test_it_reads_into_the_callers_buffer(image):
    whole = image.read_bytes()
    buffer = bytearray(3 * 65536)
    with opened(image) as disk:
        for offset in (0, 512, SIZE - len(buffer)):
            disk.read_into(offset, memoryview(buffer))
            assert buffer == whole[offset : offset + len(buffer)]
        last = bytearray(512)
        disk.read_into(SIZE - 512, memoryview(last))
        assert last == whole[-512:]


@pytest.mark.parametrize(("offset", "length"), [(1, 512), (0, 511), (SIZE, 512), (SIZE - 512, 1024), (-512, 512)])
def test_a_read_that_does_not_fit_is_our_mistake(image, offset, length):
    with opened(image) as disk, pytest.raises(InternalError):
        disk.read_into(offset, memoryview(bytearray(length)))


def test_pieces_lent_at_once_are_apart_and_later_ones_hold_nothing_of_them(image):
    whole = image.read_bytes()
    with opened(image) as disk:
        with disk.lend(Extent(0, MOST_BYTES)) as one, disk.lend(Extent(SIZE - 1024, 1024)) as other:
            assert one == whole[:MOST_BYTES]
            assert other == whole[-1024:]
        for offset, length in ((2 << 20, 512), (1 << 20, MOST_BYTES), (SIZE - 512, 512)):
            with disk.lend(Extent(offset, length)) as lent:
                assert lent == whole[offset : offset + length]


def test_a_piece_larger_than_any_is_our_mistake(image):
    with opened(image) as disk, pytest.raises(InternalError), disk.lend(Extent(0, MOST_BYTES + 512)):
        pass


def test_a_disk_that_is_too_small_is_refused_and_closed(image):
    before = descriptors()
    with pytest.raises(SourceError, match=f"shows {SIZE} bytes where the snapshot has {SIZE + 512}"):
        opened(image, SIZE + 512)
    assert descriptors() == before


def test_a_device_may_be_larger_than_the_disk(image):
    with opened(image, SIZE - 512) as disk, pytest.raises(InternalError):
        disk.read_into(SIZE - 512, memoryview(bytearray(512)))


def test_bytes_that_go_missing_are_never_made_up(image):
    with opened(image) as disk:
        os.truncate(image, 1 << 20)
        with pytest.raises(SourceError, match="512 bytes short"):
            disk.read_into((1 << 20) - 512, memoryview(bytearray(1024)))


def test_a_missing_device(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        opened(tmp_path / "nothing")


def test_an_unreadable_device(tmp_path):
    with opened(tmp_path, 0) as folder, pytest.raises(InternalError):
        folder.read_into(0, memoryview(bytearray(512)))


def test_a_read_error_is_the_disks(tmp_path):
    with opened(tmp_path, 0) as folder:
        folder._capacity = 512
        with pytest.raises(SourceError, match="Is a directory"):
            folder.read_into(0, memoryview(bytearray(512)))


def test_holes_are_left_out(image):
    with opened(image) as disk:
        found = list(disk.allocated(Extent(0, SIZE)))
        assert sum(run.length for run in found) < 2 << 20
        assert found[0].offset == 0
        assert found[-1].end == SIZE
        assert list(disk.allocated(Extent(2 << 20, 1 << 20))) == []
        assert list(disk.allocated(Extent(512, 512))) == [Extent(512, 512)]
        assert list(disk.allocated(Extent(SIZE, 0))) == []


def test_an_empty_disk_is_one_hole(tmp_path):
    path = tmp_path / "empty.img"
    path.touch()
    os.truncate(path, SIZE)
    with opened(path) as disk:
        assert list(disk.allocated(Extent(0, SIZE))) == []


def test_what_is_no_regular_file_may_hold_data_anywhere():
    with opened("/dev/zero", 0) as device:
        assert list(device.allocated(Extent(512, 1024))) == [Extent(512, 1024)]
        assert list(device.allocated(Extent(0, 0))) == []


def test_it_is_released_once_and_after_closing(image):
    before = descriptors()
    seen = []
    disk = opened(image, release=lambda: seen.append(descriptors()))
    with disk:
        pass
    disk.__exit__(None, None, None)
    assert seen == [before]


def refuse():
    raise SourceError("it cannot be detached", subject="disk", next_step="wait")


def test_a_release_that_fails_is_raised(image):
    with pytest.raises(SourceError, match="detached"), opened(image, release=refuse):
        pass


def test_a_release_that_fails_does_not_hide_the_first_error(image):
    with pytest.raises(ValueError, match="mine") as caught, opened(image, release=refuse):
        raise ValueError("mine")
    assert caught.value.__notes__ == ["it cannot be detached"]

"""Images of every kind read as the disk that they hold, and everything else is refused in one sentence."""

import os
import struct

import pytest

from common.errors import InvalidInputError, NotFoundError
from common.extent import normalise
from common.grain import GRAIN_BYTES
from target_appliance.recovery.export.forms import Form, export
from target_appliance.seed.image import open_image
from target_appliance.vmdk.layout import SECTOR_BYTES
from tests.fakes.replica import DISK, REPLICA, TENANT, World, grain_bytes, spec
from tests.unit.target_appliance.seed.disks import SIZE, SUBFORMATS, convert, first_grain, write_raw


def whole(image):
    """The disk, by what is allocated; pieces of odd sizes, so that they cross grains and extents."""
    found = bytearray(image.capacity_bytes)
    for extent in normalise(image.allocated()):
        assert extent.end <= image.capacity_bytes
        at = extent.offset
        while at < extent.end:
            length = min(5 * SECTOR_BYTES + 17 * GRAIN_BYTES, extent.end - at)
            buffer = bytearray(length)
            image.read_into(at, memoryview(buffer))
            found[at : at + length] = buffer
            at += length
    return bytes(found)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    path = tmp_path_factory.mktemp("raw") / "disk.raw"
    return path, write_raw(path)


def test_raw(raw):
    path, content = raw
    with open_image(path) as image:
        assert (image.capacity_bytes, image.adapter, image.changed) == (SIZE, "lsilogic", int(path.stat().st_mtime))
        assert sum(extent.length for extent in image.allocated()) < SIZE // 2
        assert whole(image) == content


@pytest.mark.parametrize("subformat", SUBFORMATS)
def test_vmdk_by_qemu(raw, subformat, tmp_path):
    path, content = raw
    with open_image(convert(path, tmp_path / "disk.vmdk", subformat)) as image:
        assert image.capacity_bytes == SIZE
        if "Flat" not in subformat:
            assert sum(extent.length for extent in image.allocated()) < SIZE // 2
        assert whole(image) == content


@pytest.mark.parametrize("form", list(Form))
def test_our_own_exports(form, tmp_path):
    world = World()
    world.sync({spec(capacity_bytes=SIZE): {grain: grain_bytes(grain, random_bytes=grain % 2) for grain in (0, 1399)}})
    path = tmp_path / ("disk.raw" if form is Form.RAW else "disk.vmdk")
    with world.vault.view(TENANT, REPLICA, DISK, 1) as view:
        export(view, "ide", form, path, lambda _: None)
    with open_image(path) as image:
        assert whole(image) == world.image(1)
        assert image.adapter == ("lsilogic" if form is Form.RAW else "ide")


def test_a_flat_extent_by_itself_is_raw(raw, tmp_path):
    path, content = raw
    convert(path, tmp_path / "disk.vmdk", "monolithicFlat")
    with open_image(tmp_path / "disk-flat.vmdk") as image:
        assert whole(image) == content


def test_extents_of_all_kinds_in_a_row(raw, tmp_path):
    path, content = raw
    sparse = convert(path, tmp_path / "a-s001.vmdk", "monolithicSparse")
    (tmp_path / "a-f002.vmdk").write_bytes(b"x" * SECTOR_BYTES + b"y" * 1024)
    sectors = SIZE // SECTOR_BYTES
    (tmp_path / "a.vmdk").write_text(
        '# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType="custom"\n'
        f'RW {sectors} SPARSE "{sparse.name}"\nRW 3 ZERO\nRDONLY 2 VMFS "a-f002.vmdk" 1\n'
        'ddb.adapterType = "buslogic"\n'
    )
    with open_image(tmp_path / "a.vmdk") as image:
        assert image.adapter == "buslogic"
        assert whole(image) == content + bytes(3 * SECTOR_BYTES) + b"y" * 1024


def refused(path, words, error=InvalidInputError):
    with pytest.raises(error, match=words) as caught, open_image(path) as image:
        whole(image)
    assert "\n" not in str(caught.value)
    assert str(path.parent) in caught.value.subject


@pytest.mark.parametrize("size", [0, 511, 513])
def test_a_capacity_of_no_whole_sectors_is_refused(size, tmp_path):
    path = tmp_path / "disk.raw"
    path.write_bytes(b"x" * size)
    refused(path, f"holds {size} bytes, which no virtual disk has")


def test_what_is_not_there_or_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "nothing", "there is no file", NotFoundError)
    refused(tmp_path / "pipe", "neither a file nor a block device")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "neither a file nor a block device")


@pytest.mark.parametrize("start", [b"KDMV", b"# Disk DescriptorFile", b"QFI\xfb", b"COWD"])
def test_a_container_is_not_taken_for_raw(start, tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(start.ljust(1024))
    refused(path, "its name says raw")


@pytest.mark.parametrize("start", [b"COWD", b"", b"\xbe\xba\xfe\xca"])
def test_what_is_no_vmdk_is_not_taken_for_one(start, tmp_path):
    path = tmp_path / "disk.vmdk"
    path.write_bytes(start.ljust(1024, b"\0"))
    refused(path, "no VMDK, or the delta of a snapshot")


def test_a_guest_cannot_make_its_raw_disk_name_other_files(tmp_path):
    """What it writes at its beginning is never read as a descriptor."""
    (tmp_path / "secret").write_bytes(b"s" * 512)
    text = b'# Disk DescriptorFile\nparentCID=ffffffff\nRW 1 FLAT "secret" 0\n'
    for name in ("disk.raw", "disk-flat.vmdk"):
        (tmp_path / name).write_bytes(text.ljust(1024))
        refused(tmp_path / name, "its name says raw")


def test_a_file_that_a_descriptor_names_is_missing_or_short(raw, tmp_path):
    path = convert(raw[0], tmp_path / "disk.vmdk", "monolithicFlat")
    flat = tmp_path / "disk-flat.vmdk"
    os.truncate(flat, SIZE - 512)
    refused(path, "shorter than its descriptor says")
    flat.unlink()
    refused(path, "there is no file", NotFoundError)


def test_a_delta_is_refused(raw, tmp_path):
    path = convert(raw[0], tmp_path / "disk.vmdk", "monolithicSparse")
    path.write_bytes(path.read_bytes().replace(b"parentCID=ffffffff", b"parentCID=12345678", 1))
    refused(path, "delta of a snapshot")


@pytest.mark.parametrize("place", [0, 8, 12, 2000])
def test_a_damaged_grain_is_refused(raw, place, tmp_path):
    """First sector and length in the marker, the deflated data's first bytes, and some in its middle."""
    path = convert(raw[0], tmp_path / "disk.vmdk", "streamOptimized")
    data = bytearray(path.read_bytes())
    at = first_grain(path) + place
    data[at : at + 4] = b"\xff\xff\xff\xff" if data[at : at + 4] != b"\xff\xff\xff\xff" else bytes(4)
    path.write_bytes(data)
    refused(path, "not that of its grain|does not inflate to its length")


def test_a_grain_that_inflates_to_too_much_is_refused(raw, tmp_path):
    import zlib

    path = convert(raw[0], tmp_path / "disk.vmdk", "streamOptimized")
    data = bytearray(path.read_bytes())
    bomb = zlib.compress(bytes(1 << 20))
    at = first_grain(path)
    data[at + 8 : at + 12 + len(bomb)] = struct.pack("<I", len(bomb)) + bomb
    path.write_bytes(data)
    refused(path, "does not inflate to its length")


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (4, struct.pack("<I", 9), "unknown kind"),
        (12, struct.pack("<Q", 0), "a capacity of 0 bytes"),
        (12, struct.pack("<Q", 1 << 50), "a capacity of"),
        (20, struct.pack("<Q", 3), "unknown kind"),
        (44, struct.pack("<I", 100), "unknown kind"),
        (56, struct.pack("<Q", 1 << 40), "is not in it"),
        (56, struct.pack("<Q", 0), "is not in it"),
        (8, struct.pack("<I", 3 | 1 << 16), "compressed in an unknown way"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(raw, offset, value, words, tmp_path):
    path = convert(raw[0], tmp_path / "disk.vmdk", "monolithicSparse")
    data = bytearray(path.read_bytes())
    data[offset : offset + len(value)] = value
    path.write_bytes(data)
    refused(path, words)


@pytest.mark.parametrize("subformat", ["monolithicSparse", "streamOptimized"])
@pytest.mark.parametrize("kept", [600, 0.3, 0.9])
def test_a_file_that_is_cut_is_refused(raw, subformat, kept, tmp_path):
    path = convert(raw[0], tmp_path / "disk.vmdk", subformat)
    os.truncate(path, kept if kept > 1 else int(path.stat().st_size * kept) // 512 * 512)
    refused(path, "cut short|ends at byte|is not in it|no readable|names no extent|not that of its grain")

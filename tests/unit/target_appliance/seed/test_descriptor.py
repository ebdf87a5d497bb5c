"""Descriptors of other makers: what they say, and what is not believed."""

import pytest

from target_appliance.seed.descriptor import ExtentKind, ForeignExtent, parse

HEAD = b'# Disk DescriptorFile\nversion=1\nencoding="UTF-8"\nCID=fb183c20\nparentCID=ffffffff\ncreateType="vmfs"\n'


def test_a_descriptor_as_esxi_writes_it():
    found = parse(
        HEAD
        + b"# Extent description\r\n"
        + b'RW 33554432 VMFS "web01-flat.vmdk"\r\n'
        + b'# The Disk Data Base \n#DDB\nddb.adapterType = "lsilogic"\nddb.uuid = "60 00 C2 97"\n'
    )
    assert found.extents == (ForeignExtent(33554432 * 512, ExtentKind.FLAT, "web01-flat.vmdk", 0),)
    assert found.adapter == "lsilogic"


def test_padding_and_unknown_adapters():
    found = parse(HEAD + b'RW 8 SPARSE "a b-s001.vmdk"\nddb.adapterType = "pvscsi"\n' + bytes(100) + b"RW junk")
    assert found.extents == (ForeignExtent(4096, ExtentKind.SPARSE, "a b-s001.vmdk", 0),)
    assert found.adapter == "lsilogic"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'RW 8 VMFSSPARSE "a-000001-delta.vmdk"', "kind VMFSSPARSE"),
        (b'RW 8 SESPARSE "a-000001-sesparse.vmdk"', "kind SESPARSE"),
        (b'RW 8 FLAT "/etc/shadow" 0', "outside its own folder"),
        (b'RW 8 FLAT "../other/a.raw" 0', "outside its own folder"),
        (b'RW 8 FLAT "a\\b.raw" 0', "outside its own folder"),
        (b'RW 8 FLAT ".." 0', "outside its own folder"),
        (b'RW 8 FLAT "" 0', "outside its own folder"),
        (b"RW 8 FLAT", "outside its own folder"),
        (b'RW eight FLAT "a"', "cannot be read"),
        (b'RW -8 FLAT "a" 0', "cannot be read"),
        (b'RW 8 FLAT "a" 0 more', "cannot be read"),
        (b"", "names no extent"),
        (b'parentCID=12345678\nRW 8 FLAT "a"', "delta of a snapshot"),
        (b'parentCID=parent\nRW 8 FLAT "a"', "no readable parentCID"),
    ],
)
def test_what_is_refused(line, words):
    with pytest.raises(ValueError, match=words):
        parse(HEAD + line + b"\n")

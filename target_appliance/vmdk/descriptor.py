"""The text descriptor of a VMDK: what names extents, parent and geometry.

Content ids are point numbers: a child's parentCID is its parent's number, so that a chain is told from the descriptors
alone, and equal inputs make equal files.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from target_appliance.vmdk.layout import DESCRIPTOR_SECTORS, SECTOR_BYTES

NO_PARENT: Final = 0xFFFFFFFF
STREAM: Final = "streamOptimized"
SEVERAL_SPARSE: Final = "twoGbMaxExtentSparse"
"""The only type under which qemu reads several sparse extents; their size is not held to its name by any reader."""
FLAT: Final = "monolithicFlat"
SPARSE: Final = "monolithicSparse"
ADAPTERS: Final = ("lsilogic", "buslogic", "ide", "legacyESX")
_HEADS: Final = {"ide": (16, 63)}
_SCSI_HEADS: Final = (255, 63)
_IDE_CYLINDERS_MOST: Final = 16383
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9._ -]+")


@dataclass(frozen=True, slots=True)
class ExtentLine:
    """One extent: its size in sectors, its kind (SPARSE, FLAT), the name of its file."""

    sectors: int
    kind: str
    file_name: str


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a descriptor says. ``parent_hint`` is the parent's path, relative to this file's folder."""

    create_type: str
    content_id: int
    extents: Sequence[ExtentLine]
    adapter: str = "lsilogic"
    parent_id: int = NO_PARENT
    parent_hint: str | None = None

    def encode(self) -> bytes:
        """The descriptor's text."""
        sectors = sum(extent.sectors for extent in self.extents)
        heads, per_track = _HEADS.get(self.adapter, _SCSI_HEADS)
        cylinders = sectors // (heads * per_track)
        if self.adapter == "ide":
            cylinders = min(cylinders, _IDE_CYLINDERS_MOST)
        lines = [
            "# Disk DescriptorFile",
            "version=1",
            f"CID={self.content_id:08x}",
            f"parentCID={self.parent_id:08x}",
            f'createType="{self.create_type}"',
        ]
        if self.parent_hint is not None:
            lines.append(f'parentFileNameHint="{self.parent_hint}"')
        lines += ["", "# Extent description"]
        for extent in self.extents:
            suffix = " 0" if extent.kind == "FLAT" else ""
            lines.append(f'RW {extent.sectors} {extent.kind} "{extent.file_name}"{suffix}')
        lines += [
            "",
            "# The Disk Data Base",
            "#DDB",
            "",
            'ddb.virtualHWVersion = "4"',
            f'ddb.geometry.cylinders = "{max(cylinders, 1)}"',
            f'ddb.geometry.heads = "{heads}"',
            f'ddb.geometry.sectors = "{per_track}"',
            f'ddb.adapterType = "{self.adapter}"',
            "",
        ]
        return "\n".join(lines).encode("ascii")

    def embedded(self) -> bytes:
        """The text, zero-padded to the room it has inside an extent."""
        text = self.encode()
        room = DESCRIPTOR_SECTORS * SECTOR_BYTES
        if len(text) > room:
            raise ValueError("the descriptor does not fit its room")
        return text.ljust(room, b"\0")


def printable_file_name(name: str) -> bool:
    """Whether ``name`` can stand in a descriptor: no quotes, no separators, plain ASCII."""
    return _FILE_NAME.fullmatch(name) is not None

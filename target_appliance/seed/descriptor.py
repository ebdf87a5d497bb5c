"""What a VMDK descriptor of any maker says about where a disk's bytes are. Pure."""

import enum
import re
from dataclasses import dataclass
from typing import Final

from target_appliance.vmdk.descriptor import ADAPTERS, NO_PARENT
from target_appliance.vmdk.layout import SECTOR_BYTES

MOST_BYTES: Final = 4 << 20
"""Of a descriptor that is believed: 62 TiB in extents of 2 GiB take half of it."""
MAGIC: Final = b"# Disk DescriptorFile"

_ACCESS: Final = frozenset({"RW", "RDONLY", "NOACCESS"})
_EXTENT: Final = re.compile(r'[A-Z]+\s+(\d{1,15})\s+([A-Z]+)(?:\s+"([^"]*)"(?:\s+(\d{1,15}))?)?\s*')
_SETTING: Final = re.compile(r'([\w.]+)\s*=\s*"?([^"]*)"?\s*')


class ExtentKind(enum.Enum):
    """How an extent's bytes are kept."""

    FLAT = enum.auto()
    SPARSE = enum.auto()
    ZERO = enum.auto()


_KINDS: Final = {
    "FLAT": ExtentKind.FLAT,
    "VMFS": ExtentKind.FLAT,
    "SPARSE": ExtentKind.SPARSE,
    "ZERO": ExtentKind.ZERO,
}


@dataclass(frozen=True, slots=True)
class ForeignExtent:
    """One extent; ``offset_bytes`` is where a flat one begins in its file."""

    length_bytes: int
    kind: ExtentKind
    file_name: str
    offset_bytes: int


@dataclass(frozen=True, slots=True)
class ForeignDescriptor:
    """A whole disk's."""

    extents: tuple[ForeignExtent, ...]
    adapter: str
    """lsilogic where it names none of ours."""


def parse(raw: bytes) -> ForeignDescriptor:
    """The descriptor in ``raw``, zero padding included.

    Raises:
        ValueError: it describes no whole disk that can be read; the words say why.
    """
    extents: list[ForeignExtent] = []
    settings: dict[str, str] = {}
    for line in raw.partition(b"\0")[0].decode("utf-8", "replace").splitlines():
        text = line.strip()
        if text.partition(" ")[0] in _ACCESS:
            extents.append(_extent(text))
        elif setting := _SETTING.fullmatch(text):
            settings[setting[1].lower()] = setting[2]
    if _is_child(settings.get("parentcid", "")):
        raise ValueError("it is the delta of a snapshot, not a whole disk")
    if not extents:
        raise ValueError("its descriptor names no extent")
    adapter = settings.get("ddb.adaptertype", "")
    return ForeignDescriptor(tuple(extents), adapter if adapter in ADAPTERS else ADAPTERS[0])


def _is_child(parent: str) -> bool:
    try:
        return int(parent or f"{NO_PARENT:x}", 16) != NO_PARENT
    except ValueError:
        raise ValueError("its descriptor has no readable parentCID") from None


def _extent(line: str) -> ForeignExtent:
    found = _EXTENT.fullmatch(line)
    if found is None:
        raise ValueError("its descriptor has an extent that cannot be read")
    sectors, word, name, offset = found.groups()
    kind = _KINDS.get(word)
    if kind is None:
        raise ValueError(f"it has an extent of the kind {word}, which belongs to a snapshot or a device")
    if kind is not ExtentKind.ZERO and not _is_plain(name or ""):
        # Anything else could name any file of this machine, and the tenant would get it.
        raise ValueError("its descriptor names an extent outside its own folder")
    return ForeignExtent(int(sectors) * SECTOR_BYTES, kind, name or "", int(offset or 0) * SECTOR_BYTES)


def _is_plain(name: str) -> bool:
    return name not in {"", ".", ".."} and name.isprintable() and not {"/", "\\"} & set(name)

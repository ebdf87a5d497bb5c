"""What a VM is besides its disks: a closed structure that has no room for keys, policies or free text.

Both halves use it: the agent fills it from an allow-list, the target checks it again, seals it, and reads it back.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

VERSION: Final = 1
MOST_DEVICES: Final = 256
"""Of one kind: vSphere's limit of disks, far above that of the others."""
_MOST_NUMBER: Final = (1 << 31) - 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Controller:
    """One that disks may hang on."""

    key: int
    kind: str
    """Type name without its package, such as ``ParaVirtualSCSIController``."""
    bus: int
    shared: bool
    """Other VMs reach its disks."""


@dataclass(frozen=True, slots=True)
class DiskPlace:
    """Where a disk hangs."""

    key: int
    controller: int
    """The controller's key."""
    unit: int


@dataclass(frozen=True, slots=True)
class Nic:
    """A network card."""

    key: int
    kind: str
    """Type name without its package, such as ``VirtualVmxnet3``."""
    network: str
    """Name of a standard network, id of any other; empty where there is none."""
    network_kind: str
    """standard, distributed, opaque, or empty."""
    mac: str
    """Six pairs of lower-case hex with colons; empty where it has none."""
    connected: bool
    """When the VM is powered on."""


@dataclass(frozen=True, slots=True)
class BootDevice:
    """A place in the boot order."""

    kind: str
    """disk, ethernet, cdrom or floppy."""
    key: int
    """The device's; 0 where the kind says enough."""


@dataclass(frozen=True, slots=True)
class VmConfiguration:
    """A VM at the moment of a snapshot."""

    version: int
    guest_id: str
    """VMware's name of the guest's operating system, such as ``debian12_64Guest``."""
    hardware_version: int
    """The number behind ``vmx-``; 0 where it was not seen."""
    firmware: str
    """bios, efi, or empty."""
    secure_boot: bool
    cpus: int
    cores_per_socket: int
    memory_mib: int
    vtpm: bool
    """It had a TPM; what was in it is not here, and cannot be."""
    controllers: tuple[Controller, ...]
    disks: tuple[DiskPlace, ...]
    nics: tuple[Nic, ...]
    boot_order: tuple[BootDevice, ...]

    def as_members(self) -> dict[str, Any]:
        """In JSON's types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


_NAME: Final = re.compile(r"[A-Za-z0-9_]{0,64}", re.ASCII)
_MAC: Final = re.compile(r"([0-9a-f]{2}(:[0-9a-f]{2}){5})?", re.ASCII)
_MOST_TEXT: Final = 128
_WORDS: Final = {
    "firmware": ("", "bios", "efi"),
    "network_kind": ("", "standard", "distributed", "opaque"),
    "boot": ("disk", "ethernet", "cdrom", "floppy"),
}


def fits(field: str, text: str) -> bool:
    """Whether ``text`` may stand in the field of this name; ``boot`` stands for the kind of a boot device."""
    if field in _WORDS:
        return text in _WORDS[field]
    if field == "network":
        return len(text) <= _MOST_TEXT and text.isprintable()
    return (_MAC if field == "mac" else _NAME).fullmatch(text) is not None


def parse(members: Any) -> VmConfiguration:
    """The configuration of ``as_members``, or of a message of the wire as a dictionary.

    Raises:
        ValueError: a member lacks, is one too many, or is out of its bounds.
    """
    found = _parsed(
        VmConfiguration,
        members,
        {
            "controllers": _list(lambda one: _parsed(Controller, one)),
            "disks": _list(lambda one: _parsed(DiskPlace, one)),
            "nics": _list(lambda one: _parsed(Nic, one)),
            "boot_order": _list(lambda one: _parsed(BootDevice, one, {"kind": lambda text: _text("boot", text)})),
        },
    )
    if found.version != VERSION:
        raise ValueError(f"version {found.version} of a VM's configuration is unknown")
    return found


def _parsed(form: type[T], members: Any, own: Mapping[str, Callable[[Any], Any]] | None = None) -> T:
    types = form.__annotations__
    if not isinstance(members, dict) or members.keys() != types.keys():
        raise ValueError(f"it lacks a member of a {form.__name__}, or has one too many")
    values = {}
    for name, kind in types.items():
        value = members[name]
        if own is not None and name in own:
            values[name] = own[name](value)
        elif kind is str:
            values[name] = _text(name, value)
        elif type(value) is not kind or (kind is int and not 0 <= value <= _MOST_NUMBER):
            raise ValueError(f"{name} of a {form.__name__} is out of its bounds")
        else:
            values[name] = value
    return form(**values)


def _text(field: str, value: Any) -> str:
    if not isinstance(value, str) or not fits(field, value):
        raise ValueError(f"the text of {field} is out of its bounds")
    return value


def _list(parsed: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    def parse_all(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list | tuple) or len(value) > MOST_DEVICES:
            raise ValueError(f"a list of devices has more than {MOST_DEVICES} of them, or is none")
        return tuple(parsed(one) for one in value)

    return parse_all

"""A VM's configuration from what the vCenter says of it: an allow-list. Pure.

What is not named here does not leave the site. Encryption, keys, policies and providers have no field; neither have
``extraConfig``, vApp properties and notes, in which people and programs keep passwords. MAC addresses are told: every
neighbour on the network sees them, and licences and DHCP reservations hang on them after a failover.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from pyVmomi import vim

from common.vm_configuration import (
    MOST_DEVICES,
    VERSION,
    BootDevice,
    Controller,
    DiskPlace,
    Nic,
    VmConfiguration,
    fits,
)

PATHS: Final = (
    "config.bootOptions",
    "config.firmware",
    "config.guestId",
    "config.hardware.device",
    "config.hardware.memoryMB",
    "config.hardware.numCPU",
    "config.hardware.numCoresPerSocket",
    "config.version",
)
"""Properties that are read, of a VM or of its snapshot."""

_DEVICE = vim.vm.device
_CARD = _DEVICE.VirtualEthernetCard
_BOOT = vim.vm.BootOptions
_CONTROLLERS = (
    _DEVICE.VirtualSCSIController,
    _DEVICE.VirtualSATAController,
    _DEVICE.VirtualNVMEController,
    _DEVICE.VirtualIDEController,
)


def recorded(values: Mapping[str, Any]) -> VmConfiguration:
    """The configuration in the values of ``PATHS``; what is unset, hidden or out of bounds is empty or 0."""
    devices = sorted(values.get("config.hardware.device") or [], key=lambda one: one.key)
    boot = values.get("config.bootOptions")
    version = (values.get("config.version") or "").removeprefix("vmx-")
    return VmConfiguration(
        version=VERSION,
        guest_id=_text("guest_id", values.get("config.guestId")),
        hardware_version=_number(int(version)) if version.isdecimal() and len(version) < 6 else 0,
        firmware=_text("firmware", values.get("config.firmware")),
        secure_boot=bool(getattr(boot, "efiSecureBootEnabled", None)),
        cpus=_number(values.get("config.hardware.numCPU")),
        cores_per_socket=_number(values.get("config.hardware.numCoresPerSocket")),
        memory_mib=_number(values.get("config.hardware.memoryMB")),
        vtpm=any(isinstance(device, _DEVICE.VirtualTPM) for device in devices),
        controllers=_first(
            Controller(_number(one.key), _kind(one), _number(one.busNumber), _shared(one))
            for one in devices
            if isinstance(one, _CONTROLLERS)
        ),
        disks=_first(
            DiskPlace(_number(one.key), _number(one.controllerKey), _number(one.unitNumber))
            for one in devices
            if isinstance(one, _DEVICE.VirtualDisk)
        ),
        nics=_first(_nic(one) for one in devices if isinstance(one, _CARD)),
        boot_order=_first(_boot(one) for one in getattr(boot, "bootOrder", None) or []),
    )


def _nic(card: Any) -> Nic:
    kind, network = _network(card.backing)
    return Nic(
        key=_number(card.key),
        kind=_kind(card),
        network=_text("network", network),
        network_kind=kind,
        mac=_text("mac", (card.macAddress or "").lower()),
        connected=bool(card.connectable is not None and card.connectable.startConnected),
    )


def _network(backing: Any) -> tuple[str, str]:
    if isinstance(backing, _CARD.NetworkBackingInfo):
        return "standard", backing.deviceName or ""
    if isinstance(backing, _CARD.DistributedVirtualPortBackingInfo):
        return "distributed", backing.port.portgroupKey or ""
    if isinstance(backing, _CARD.OpaqueNetworkBackingInfo):
        return "opaque", backing.opaqueNetworkId or ""
    return "", ""


def _boot(device: Any) -> BootDevice | None:
    if isinstance(device, _BOOT.BootableDiskDevice):
        return BootDevice("disk", _number(device.deviceKey))
    if isinstance(device, _BOOT.BootableEthernetDevice):
        return BootDevice("ethernet", _number(device.deviceKey))
    if isinstance(device, _BOOT.BootableCdromDevice):
        return BootDevice("cdrom", 0)
    return BootDevice("floppy", 0) if isinstance(device, _BOOT.BootableFloppyDevice) else None


def _shared(controller: Any) -> bool:
    return (getattr(controller, "sharedBus", None) or "noSharing") != "noSharing"


def _kind(device: Any) -> str:
    return _text("kind", type(device).__name__.rpartition(".")[2])


def _text(field: str, text: str | None) -> str:
    return text if text and fits(field, text) else ""


def _number(value: int | None) -> int:
    return value if value is not None and 0 <= value < 1 << 31 else 0


def _first(found: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(one for one in found if one is not None)[:MOST_DEVICES]

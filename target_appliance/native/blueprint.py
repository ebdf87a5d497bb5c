"""What VM a point becomes, and the vSphere specs that make it. Pure.

The home is created first and then the disks, each with its own crypto spec: an encrypted disk needs an encrypted home,
and a policy or key on the home does not reach the disks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from pyVmomi import vim

from common.ids import DiskKey
from target_appliance.native.shape import Card, Shape
from target_appliance.recovery.types import DiskSpec, PointRecord

MARKER: Final = "keysapart.failover"
"""Name in ``extraConfig`` whose value is the id of the failover that made the VM."""

_DEVICE = vim.vm.device
_ADD = _DEVICE.VirtualDeviceSpec.Operation.add
_KINDS: Final[dict[str, type]] = {
    "ParaVirtualSCSIController": _DEVICE.ParaVirtualSCSIController,
    "VirtualLsiLogicSASController": _DEVICE.VirtualLsiLogicSASController,
    "VirtualLsiLogicController": _DEVICE.VirtualLsiLogicController,
    "VirtualBusLogicController": _DEVICE.VirtualBusLogicController,
    "VirtualAHCIController": _DEVICE.VirtualAHCIController,
    "VirtualNVMEController": _DEVICE.VirtualNVMEController,
}
"""Controllers that can be added, by the names that agents record."""
_CARDS: Final[dict[str, type]] = {
    "VirtualVmxnet3": _DEVICE.VirtualVmxnet3,
    "VirtualVmxnet2": _DEVICE.VirtualVmxnet2,
    "VirtualE1000": _DEVICE.VirtualE1000,
    "VirtualE1000e": _DEVICE.VirtualE1000e,
    "VirtualPCNet32": _DEVICE.VirtualPCNet32,
}
"""Network cards that can be added; any other becomes the first."""
_IDE: Final = "VirtualIDEController"
"""Every VM has two of these from the start."""
_FALLBACK: Final = "VirtualLsiLogicSASController"
"""For disks of which nobody knows where they were: images that were imported. Guests old and new have its driver."""


@dataclass(frozen=True, slots=True)
class Crypto:
    """What encrypts home and disks: a provider, and the policy that goes with it (empty: none)."""

    provider: str
    policy: str = ""


@dataclass(frozen=True, slots=True, order=True)
class Controller:
    """A disk controller: its type's name, and which of that type it is."""

    kind: str
    bus: int


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk to be made, at the address that it had at the source."""

    key: DiskKey
    """At the source; the VM's own may differ."""
    label: str
    capacity_bytes: int
    controller: Controller
    unit: int


@dataclass(frozen=True, slots=True)
class Blueprint:
    """The whole VM."""

    failover: str
    """Id of the failover, for the marker."""
    name: str
    shape: Shape
    disks: tuple[Disk, ...]
    crypto: Crypto


def disks_of(record: PointRecord) -> tuple[Disk, ...]:
    """The disks of a point. Bytes of a capacity are given as they are: a host rounds none up that it made once."""
    return tuple(
        Disk(spec.key, spec.label, spec.capacity_bytes, Controller(_kind(spec), spec.bus), spec.unit)
        for spec in (disk.spec for disk in record.disks)
    )


def _kind(spec: DiskSpec) -> str:
    return spec.controller if spec.controller in _KINDS or spec.controller == _IDE else _FALLBACK


def controller_of(device: Any) -> Controller | None:
    """What a device is as a disk controller; None for everything else."""
    name = type(device).__name__.rpartition(".")[2]
    return Controller(name, device.busNumber) if name in _KINDS or name == _IDE else None


def _encrypted(crypto: Crypto) -> Any:
    """An empty key id makes the vCenter have a key made: native providers take nothing else."""
    provider = vim.encryption.KeyProviderId(id=crypto.provider)
    return vim.encryption.CryptoSpecEncrypt(cryptoKeyId=vim.encryption.CryptoKeyId(keyId="", providerId=provider))


def _profiles(crypto: Crypto) -> list[Any] | None:
    return [vim.vm.DefinedProfileSpec(profileId=crypto.policy)] if crypto.policy else None


def home(plan: Blueprint, datastore: str, networks: Sequence[Any]) -> Any:
    """The VM without disks: encrypted home, controllers, adapters, our marker.

    Args:
        plan: the VM.
        datastore: its name.
        networks: backings of the adapters, in order.
    """
    wanted = sorted({disk.controller for disk in plan.disks if disk.controller.kind != _IDE})
    changes = [
        _DEVICE.VirtualDeviceSpec(operation=_ADD, device=_controller(one, -1000 - number))
        for number, one in enumerate(wanted)
    ]
    changes += [
        _DEVICE.VirtualDeviceSpec(operation=_ADD, device=_card(card, backing, -4000 - number))
        for number, (card, backing) in enumerate(zip(plan.shape.cards, networks, strict=True))
    ]
    if plan.shape.vtpm:
        changes.append(_DEVICE.VirtualDeviceSpec(operation=_ADD, device=_DEVICE.VirtualTPM(key=-11000)))
    return vim.vm.ConfigSpec(
        name=plan.name,
        guestId=plan.shape.guest_id,
        version=f"vmx-{plan.shape.hardware_version:02}" if plan.shape.hardware_version else None,
        numCPUs=plan.shape.cpus,
        numCoresPerSocket=plan.shape.cores_per_socket or None,
        memoryMB=plan.shape.memory_mib,
        firmware=plan.shape.firmware,
        bootOptions=vim.vm.BootOptions(efiSecureBootEnabled=True) if plan.shape.secure_boot else None,
        files=vim.vm.FileInfo(vmPathName=f"[{datastore}]"),
        extraConfig=[vim.option.OptionValue(key=MARKER, value=plan.failover)],
        crypto=_encrypted(plan.crypto),
        vmProfile=_profiles(plan.crypto),
        deviceChange=changes,
    )


def _card(wanted: Card, backing: Any, key: int) -> Any:
    """Its address is new: the source's VM may still have its own on a network that both reach."""
    connect = _DEVICE.VirtualDevice.ConnectInfo(
        startConnected=wanted.connected, connected=False, allowGuestControl=True
    )
    made: Any = _CARDS.get(wanted.kind, _DEVICE.VirtualVmxnet3)(key=key, addressType="generated")
    made.backing, made.connectable = backing, connect
    return made


def _controller(wanted: Controller, key: int) -> Any:
    made: Any = _KINDS[wanted.kind](key=key, busNumber=wanted.bus)
    if isinstance(made, _DEVICE.VirtualSCSIController):
        made.sharedBus = _DEVICE.VirtualSCSIController.Sharing.noSharing
    return made


def disk(wanted: Disk, controller_key: int, crypto: Crypto) -> Any:
    """The change that adds one new, thin, encrypted disk."""
    device = _DEVICE.VirtualDisk(
        key=-1,
        controllerKey=controller_key,
        unitNumber=wanted.unit,
        capacityInBytes=wanted.capacity_bytes,
        capacityInKB=wanted.capacity_bytes // 1024,
        backing=_DEVICE.VirtualDisk.FlatVer2BackingInfo(fileName="", diskMode="persistent", thinProvisioned=True),
    )
    return vim.vm.ConfigSpec(
        deviceChange=[
            _DEVICE.VirtualDeviceSpec(
                operation=_ADD,
                fileOperation=_DEVICE.VirtualDeviceSpec.FileOperation.create,
                device=device,
                profile=_profiles(crypto),
                backing=_DEVICE.VirtualDeviceSpec.BackingSpec(crypto=_encrypted(crypto)),
            )
        ]
    )

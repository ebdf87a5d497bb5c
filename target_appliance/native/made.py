"""What stands at the vCenter of a VM that we made, and whether its encryption is what was asked for. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pyVmomi import vim

from common.errors import KeysapartError, VCenterError
from target_appliance.native.blueprint import Controller, Disk, controller_of

_DEVICE = vim.vm.device


@dataclass(frozen=True, slots=True)
class KeyId:
    """A key's id, and its provider's."""

    key: str
    provider: str


@dataclass(frozen=True, slots=True)
class MadeDisk:
    """A disk of the VM: its own key, the file, and what encrypts it (None: nothing)."""

    device_key: int
    controller: Controller
    unit: int
    path: str
    capacity_bytes: int
    key: KeyId | None


@dataclass(frozen=True, slots=True)
class MadeVm:
    """The VM as the vCenter tells it."""

    moref: str
    name: str
    running: bool
    key: KeyId | None
    controllers: dict[Controller, int]
    """With their device keys."""
    disks: tuple[MadeDisk, ...]
    strange: tuple[str, ...] = ()
    """Files of disks that lie in another folder than the VM: somebody attached them."""

    def at(self, wanted: Disk) -> MadeDisk | None:
        """The disk at the address of a wanted one."""
        return next((one for one in self.disks if (one.controller, one.unit) == (wanted.controller, wanted.unit)), None)


def describe(moref: str, values: dict[str, Any]) -> MadeVm:
    """From the properties ``PATHS``."""
    devices: Sequence[Any] = values.get("config.hardware.device") or []
    controllers = {found: one.key for one in devices if (found := controller_of(one)) is not None}
    by_key = {key: found for found, key in controllers.items()}
    attached: list[Any] = [one for one in devices if isinstance(one, _DEVICE.VirtualDisk)]
    disks = tuple(
        MadeDisk(
            one.key,
            by_key[one.controllerKey],
            one.unitNumber,
            one.backing.fileName,
            one.capacityInBytes,
            _key(getattr(one.backing, "keyId", None)),
        )
        for one in attached
        if one.controllerKey in by_key
    )
    running = values.get("runtime.powerState") == "poweredOn"
    home = _folder(values.get("config.files.vmPathName") or "")
    files = [str(one.backing.fileName) for one in attached]
    strange = tuple(file for file in files if _folder(file) != home)
    key = _key(values.get("config.keyId"))
    return MadeVm(moref, values.get("name", moref), running, key, controllers, disks, strange)


PATHS = ("name", "runtime.powerState", "config.keyId", "config.hardware.device", "config.files.vmPathName")


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _key(found: Any) -> KeyId | None:
    if found is None or not found.keyId:
        return None
    return KeyId(found.keyId, found.providerId.id if found.providerId is not None else "")


def keys_of(vm: MadeVm) -> tuple[KeyId, ...]:
    """Of home and disks, as far as they have any."""
    return tuple(key for key in (vm.key, *(disk.key for disk in vm.disks)) if key is not None)


def unfit(vm: MadeVm, wanted: Iterable[Disk], provider: str, missing: Collection[KeyId]) -> KeysapartError | None:
    """Why nothing may be written to this VM; None when home and every disk are under keys of ``provider``.

    ``missing`` are keys that the provider does not have.
    """
    found = [(f"VM {vm.name}", vm.key)]
    for one in wanted:
        made = vm.at(one)
        subject = f"disk {one.key} of VM {vm.name}"
        if made is None or made.capacity_bytes != one.capacity_bytes:
            return _stop(subject, "is not there as it was made")
        found.append((subject, made.key))
    for subject, key in found:
        if key is None:
            return _stop(subject, "was created, but is not encrypted")
        if key.provider != provider:
            return _stop(subject, f"is encrypted under {key.provider or 'no provider'}, not under {provider}")
        if key in missing:
            return _stop(subject, f"is encrypted under a key that {provider} does not have")
    return None


def _stop(subject: str, what: str) -> KeysapartError:
    return VCenterError(
        f"{subject} {what}, so nothing more is written to it",
        subject=subject,
        next_step="check key provider and storage policy, then run failover --clean-up and failover again",
    )

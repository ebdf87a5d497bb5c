"""vCenter's properties in the port's words. Pure: data objects in, frozen dataclasses out.

Key ids and provider names stop here: of encryption, only the fact that it is on goes further.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pyVmomi import vim

from common.ids import DiskKey, ReplicaId
from common.vsphere.properties import moref_of
from source_agent.vsphere.port import Backing, DiskInfo, SnapshotInfo, VmInfo

VM_PATHS = (
    "name",
    "capability.changeTrackingSupported",
    "config.changeTrackingEnabled",
    "config.hardware.device",
    "config.instanceUuid",
    "config.keyId",
    "config.template",
    "config.version",
    "runtime.consolidationNeeded",
    "runtime.host",
    "runtime.powerState",
    "snapshot",
)
HOST_PATHS = ("config.product",)

_DEVICE = vim.vm.device
_FILE_BACKINGS = (
    _DEVICE.VirtualDisk.FlatVer2BackingInfo,
    _DEVICE.VirtualDisk.SeSparseBackingInfo,
    _DEVICE.VirtualDisk.SparseVer2BackingInfo,
    _DEVICE.VirtualDisk.FlatVer1BackingInfo,
    _DEVICE.VirtualDisk.SparseVer1BackingInfo,
)
_ESCAPED = (("%2f", "/"), ("%2F", "/"), ("%5c", "\\"), ("%5C", "\\"), ("%25", "%"))


def plain_name(text: str) -> str:
    """A name as people see it: vCenter escapes slash, backslash and per cent in properties."""
    for escaped, char in _ESCAPED:  # per cent last, or "%252f" would become a slash
        text = text.replace(escaped, char)
    return text


@dataclass(frozen=True, slots=True)
class Name:
    """A VM by its names alone."""

    moref: str
    name: str
    instance_uuid: ReplicaId


def named(moref: str, values: Mapping[str, Any]) -> Name:
    """The names in a VM's properties; an instance UUID that cannot be seen is empty."""
    return Name(moref, plain_name(values.get("name", "")), ReplicaId((values.get("config.instanceUuid") or "").lower()))


def describable(values: Mapping[str, Any]) -> bool:
    """The VM has a configuration that can be seen: not orphaned, not inaccessible, not hidden."""
    return bool(values.get("config.instanceUuid"))


def vm(moref: str, values: Mapping[str, Any], hosts: Mapping[str, tuple[str, int]]) -> VmInfo:
    """The VM of ``VM_PATHS``' values; ``hosts`` gives version and build by the host's moref."""
    devices = values.get("config.hardware.device") or []
    host = values.get("runtime.host")
    version, build = hosts.get(moref_of(host), ("", 0)) if host is not None else ("", 0)
    return VmInfo(
        moref=moref,
        name=plain_name(values.get("name", "")),
        instance_uuid=ReplicaId(values["config.instanceUuid"].lower()),
        template=bool(values.get("config.template")),
        powered_on=values.get("runtime.powerState") == "poweredOn",
        hardware_version=hardware_version(values.get("config.version") or ""),
        encrypted=values.get("config.keyId") is not None,
        has_vtpm=any(isinstance(device, _DEVICE.VirtualTPM) for device in devices),
        tracking_supported=bool(values.get("capability.changeTrackingSupported")),
        tracking_enabled=bool(values.get("config.changeTrackingEnabled")),
        consolidation_needed=bool(values.get("runtime.consolidationNeeded")),
        disks=disks(devices),
        snapshots=snapshots(values.get("snapshot")),
        host_version=version,
        host_build=build,
    )


def host(values: Mapping[str, Any]) -> tuple[str, int]:
    """Version and build of a host; empty and 0 where it does not say."""
    product = values.get("config.product")
    if product is None:
        return "", 0
    build = product.build or ""
    return product.version or "", int(build) if build.isdecimal() else 0


def hardware_version(text: str) -> int:
    """The number of ``vmx-19``; 0 for anything else."""
    number = text.removeprefix("vmx-")
    return int(number) if number.isdecimal() else 0


def disks(devices: Iterable[Any]) -> tuple[DiskInfo, ...]:
    """All virtual disks of a device list, by key."""
    known = {device.key: device for device in devices}
    found = [device for device in known.values() if isinstance(device, _DEVICE.VirtualDisk)]
    return tuple(_disk(device, known.get(device.controllerKey)) for device in sorted(found, key=lambda one: one.key))


def _disk(device: Any, controller: Any) -> DiskInfo:
    backing = device.backing
    mode = getattr(backing, "diskMode", None) or ""
    return DiskInfo(
        key=DiskKey(device.key),
        label=device.deviceInfo.label if device.deviceInfo is not None else "",
        uuid=getattr(backing, "uuid", None) or "",
        capacity_bytes=device.capacityInBytes or (device.capacityInKB or 0) * 1024,
        backing=_kind(backing),
        backing_path=getattr(backing, "fileName", None) or "",
        change_id=getattr(backing, "changeId", None) or None,
        independent=mode.startswith("independent") or mode == "nonpersistent",
        shared_bus=_shared(backing, controller),
        encrypted=getattr(backing, "keyId", None) is not None,
        controller=type(controller).__name__.rpartition(".")[2] if controller is not None else "",
        bus=getattr(controller, "busNumber", None) or 0,
        unit=device.unitNumber or 0,
        adapter=_adapter(controller),
    )


def _kind(backing: Any) -> Backing:
    if isinstance(backing, _DEVICE.VirtualDisk.RawDiskMappingVer1BackingInfo):
        return Backing.VIRTUAL_RDM if backing.compatibilityMode == "virtualMode" else Backing.PHYSICAL_RDM
    return Backing.FILE if isinstance(backing, _FILE_BACKINGS) else Backing.OTHER


def _shared(backing: Any, controller: Any) -> bool:
    bus = getattr(controller, "sharedBus", None) or "noSharing"
    disk = getattr(backing, "sharing", None) or "sharingNone"
    return bus != "noSharing" or disk != "sharingNone"


def _adapter(controller: Any) -> str:
    """Descriptors know three words; everything newer than them is written as lsilogic there."""
    if isinstance(controller, _DEVICE.VirtualIDEController):
        return "ide"
    return "buslogic" if isinstance(controller, _DEVICE.VirtualBusLogicController) else "lsilogic"


def snapshots(tree: Any) -> tuple[SnapshotInfo, ...]:
    """The ``snapshot`` property's nodes, parents before children; none where it is unset."""
    return tuple(_nodes(tree.rootSnapshotList or [])) if tree is not None else ()


def _nodes(tree: Iterable[Any]) -> Iterator[SnapshotInfo]:
    """Without recursion, chains may be long."""
    waiting = list(tree)
    while waiting:
        node = waiting.pop(0)
        yield SnapshotInfo(
            moref_of(node.snapshot),
            plain_name(node.name),
            node.description or "",
            utc(node.createTime),
            bool(node.quiesced),
        )
        waiting[:0] = node.childSnapshotList or []


def delta_bytes(layout: Any) -> int:
    """Bytes of the files that a VM's disks are written to now, in a ``layoutEx``; 0 for disks that have no delta."""
    if layout is None:
        return 0
    sizes = {file.key: file.size or 0 for file in layout.file or []}
    tops = [disk.chain[-1] for disk in layout.disk or [] if len(disk.chain or []) > 1]
    return sum(sizes.get(key, 0) for top in tops for key in top.fileKey or [])


def utc(time: datetime) -> datetime:
    """The time in UTC; vCenter's times bear a zone."""
    return time.astimezone(UTC)

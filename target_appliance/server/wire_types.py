"""What the wire says of a sync, checked, as values of the store; and a point as the wire tells it. Pure."""

from typing import Final

from google.protobuf.json_format import MessageToDict

from common import vm_configuration
from common.errors import InvalidInputError, ProtocolError
from common.grain import MAX_CAPACITY_BYTES
from common.ids import parse_disk_key
from common.sync.events import PROTOCOL_VERSION
from common.vm_configuration import VmConfiguration
from common.wire.v1 import replication_pb2 as wire
from target_appliance.recovery.types import DiskSpec, PointRecord, SyncHeader, SyncKind

_KINDS: Final[dict[int, SyncKind]] = {
    wire.SYNC_KIND_FULL: SyncKind.FULL,
    wire.SYNC_KIND_DELTA: SyncKind.DELTA,
    wire.SYNC_KIND_COMPARE: SyncKind.COMPARE,
}
_WIRE_KINDS: Final = {
    SyncKind.FULL: wire.SYNC_KIND_FULL,
    SyncKind.DELTA: wire.SYNC_KIND_DELTA,
    SyncKind.COMPARE: wire.SYNC_KIND_COMPARE,
}
_CONSISTENCY: Final = ("crash", "file-system")
_ADAPTERS: Final = ("lsilogic", "buslogic", "ide")
_SECTOR: Final = 512
_MOST_TEXT: Final = 1024
_MOST_DISKS: Final = 256
"""vSphere's limit is 4 controllers with 64 disks."""


def _refuse(what: str, subject: str) -> InvalidInputError:
    return InvalidInputError(what, subject=subject, next_step="upgrade the agent; this is its mistake")


def _text(value: str, what: str) -> str:
    if len(value) > _MOST_TEXT or not value.isprintable():
        raise _refuse(f"{what} is too long or not printable", "sync")
    return value


def header(request: wire.BeginSyncRequest) -> SyncHeader:
    """What a sync says about itself.

    Raises:
        ProtocolError: it speaks another version of the protocol.
        InvalidInputError: a field is out of its bounds.
    """
    if request.protocol_version != PROTOCOL_VERSION:
        raise ProtocolError(
            f"the agent speaks protocol version {request.protocol_version}, this target {PROTOCOL_VERSION}",
            subject="sync",
            next_step="upgrade the older of the two halves",
        )
    if not 1 <= len(request.disks) <= _MOST_DISKS or len({disk.key for disk in request.disks}) != len(request.disks):
        raise _refuse(f"a sync of {len(request.disks)} disks, or of one twice, cannot be", "sync")
    if request.consistency not in _CONSISTENCY:
        raise _refuse("the consistency is unknown", "sync")
    return SyncHeader(
        vm_name=_text(request.vm_name, "the VM's name"),
        kind=_kind(request.kind),
        disks=tuple(_spec(disk) for disk in request.disks),
        base_point=request.base_point,
        snapshot_time=request.snapshot_time_seconds,
        consistency=request.consistency,
        configuration=_configuration(request),
    )


def _configuration(request: wire.BeginSyncRequest) -> VmConfiguration | None:
    if not request.HasField("configuration"):
        return None
    told = MessageToDict(
        request.configuration, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    try:
        return vm_configuration.parse(told)
    except ValueError as error:
        raise _refuse(f"the VM's configuration cannot be: {error}", "sync") from None


def _kind(number: int) -> SyncKind:
    kind = _KINDS.get(number)
    if kind is None:
        raise _refuse(f"sync kind {number} is unknown", "sync")
    return kind


def _spec(disk: wire.Disk) -> DiskSpec:
    subject = f"disk {disk.key}"
    if not 0 < disk.capacity_bytes <= MAX_CAPACITY_BYTES or disk.capacity_bytes % _SECTOR:
        raise _refuse(f"a capacity of {disk.capacity_bytes} bytes cannot be", subject)
    if disk.adapter not in _ADAPTERS:
        raise _refuse("the adapter is unknown", subject)
    return DiskSpec(
        key=parse_disk_key(disk.key),
        uuid=_text(disk.uuid, "the disk's UUID"),
        label=_text(disk.label, "the disk's label"),
        capacity_bytes=disk.capacity_bytes,
        backing_path=_text(disk.backing_path, "the backing path"),
        change_id=_text(disk.change_id, "the change id"),
        encrypted=disk.encrypted,
        controller=_text(disk.controller, "the controller"),
        bus=disk.bus,
        unit=disk.unit,
        adapter=disk.adapter,
        kind=_kind(disk.kind),
    )


def point(record: PointRecord) -> wire.Point:
    """A committed point as the wire tells it."""
    return wire.Point(
        number=record.number,
        time_seconds=record.snapshot_time,
        kind=_WIRE_KINDS[record.kind],
        disks=[_disk(disk.spec) for disk in record.disks],
        record_hash=record.record_hash,
    )


def _disk(spec: DiskSpec) -> wire.Disk:
    return wire.Disk(
        key=spec.key,
        uuid=spec.uuid,
        label=spec.label,
        capacity_bytes=spec.capacity_bytes,
        backing_path=spec.backing_path,
        change_id=spec.change_id,
        encrypted=spec.encrypted,
        controller=spec.controller,
        bus=spec.bus,
        unit=spec.unit,
        adapter=spec.adapter,
        kind=_WIRE_KINDS[spec.kind],
    )

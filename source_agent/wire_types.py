"""What the agent says of a sync, as wire messages, and what the target tells of its newest point; pure."""

from datetime import UTC, datetime

from google.protobuf.json_format import ParseDict

from common.errors import ProtocolError
from common.ids import parse_disk_key, parse_point
from common.sync.events import PROTOCOL_VERSION
from common.vm_configuration import VmConfiguration
from common.wire.v1 import replication_pb2 as wire
from source_agent.plan import DiskPlan, Kind, Plan
from source_agent.trust import HeldDisk, HeldPoint
from source_agent.vsphere.port import DiskInfo, Snapshot, VmInfo

_KIND = {
    Kind.FULL: wire.SYNC_KIND_FULL,
    Kind.DELTA: wire.SYNC_KIND_DELTA,
    Kind.COMPARE: wire.SYNC_KIND_COMPARE,
}


def held_point(vm: VmInfo, described: wire.DescribeReplicaResponse) -> HeldPoint | None:
    """The target's newest point; None when it has none.

    Raises:
        ProtocolError: target and agent have no version of the protocol in common.
    """
    if PROTOCOL_VERSION not in described.protocol_versions:
        raise ProtocolError(
            f"the target speaks protocol versions {list(described.protocol_versions)}, this agent {PROTOCOL_VERSION}",
            subject="target",
            next_step="upgrade the older of the two halves",
        )
    if not described.HasField("newest"):
        return None
    disks = tuple(
        HeldDisk(parse_disk_key(disk.key), disk.uuid, disk.capacity_bytes, disk.backing_path, disk.change_id)
        for disk in described.newest.disks
    )
    taken = datetime.fromtimestamp(described.newest.time_seconds, UTC)
    return HeldPoint(parse_point(described.newest.number), vm.instance_uuid, disks, taken, described.begins_chain)


def begin_request(vm: VmInfo, snapshot: Snapshot, plan: Plan, base: int) -> wire.BeginSyncRequest:
    """The request that opens the sync; ``base`` is the target's newest point that was planned on, 0 for none."""
    plans = {disk.key: disk for disk in plan.disks}
    return wire.BeginSyncRequest(
        protocol_version=PROTOCOL_VERSION,
        replica=vm.instance_uuid,
        vm_name=vm.name,
        base_point=base,
        kind=_KIND[plan.kind],
        disks=[_disk(disk, plans[disk.key], keeps=plan.keeps_change_ids) for disk in snapshot.disks],
        snapshot_time_seconds=int(snapshot.created.timestamp()),
        consistency=snapshot.consistency,
        configuration=_configuration(snapshot.configuration),
    )


def _configuration(told: VmConfiguration | None) -> wire.VmConfiguration | None:
    return None if told is None else ParseDict(told.as_members(), wire.VmConfiguration())


def _disk(disk: DiskInfo, plan: DiskPlan, *, keeps: bool) -> wire.Disk:
    return wire.Disk(
        key=disk.key,
        uuid=disk.uuid,
        label=disk.label,
        capacity_bytes=disk.capacity_bytes,
        backing_path=disk.backing_path,
        change_id=(disk.change_id or "") if keeps else "",
        encrypted=disk.encrypted,
        controller=disk.controller,
        bus=disk.bus,
        unit=disk.unit,
        adapter=disk.adapter,
        kind=_KIND[plan.kind],
    )

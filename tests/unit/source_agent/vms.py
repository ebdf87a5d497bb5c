"""VMs and disks as vCenter would describe them, each field as harmless as can be."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

from common.ids import DiskKey, ReplicaId
from source_agent.vsphere.port import Backing, DiskInfo, KeyProvider, Snapshot, SnapshotInfo, Surroundings, VmInfo

AGENT = "5c3c0d3e-7a51-4a8e-9a53-2f8b1e0a7c11"
OTHER_AGENT = "6d4d1e4f-8b62-4b9f-8b64-3a9c2f1b8d22"
RUN = "52 de ad be ef 00 00 01-aa bb cc dd ee ff 00 11"
GIB = 1 << 30

DISK = DiskInfo(
    key=DiskKey(2000),
    label="Hard disk 1",
    uuid="6000c29e-0000-0000-0000-000000000001",
    capacity_bytes=GIB,
    backing=Backing.FILE,
    backing_path="[store] web01/web01.vmdk",
    change_id=f"{RUN}/7",
    independent=False,
    shared_bus=False,
    encrypted=True,
    controller="ParaVirtualSCSIController",
    bus=0,
    unit=0,
    adapter="lsilogic",
)
VM = VmInfo(
    moref="vm-10",
    name="web01",
    instance_uuid=ReplicaId("4c4c4544-0042-5a10-8030-b4c04f564d31"),
    template=False,
    powered_on=True,
    hardware_version=19,
    encrypted=True,
    has_vtpm=False,
    tracking_supported=True,
    tracking_enabled=True,
    consolidation_needed=False,
    disks=(DISK,),
    snapshots=(),
    host_version="8.0.3",
    host_build=24022510,
)
AROUND = Surroundings(
    host="esx1", vsan_datastores=(), key_provider=KeyProvider.NONE, relocation_disabled=False, tools_running=True
)
TAKEN = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def disk(**changes: Any) -> DiskInfo:
    return dataclasses.replace(DISK, **changes)


def vm(**changes: Any) -> VmInfo:
    return dataclasses.replace(VM, **changes)


def around(**changes: Any) -> Surroundings:
    return dataclasses.replace(AROUND, **changes)


def node(name: str, moref: str = "snapshot-1", description: str = "") -> SnapshotInfo:
    return SnapshotInfo(moref, name, description, TAKEN)


def frozen(*disks: DiskInfo, moref: str = "snapshot-9") -> Snapshot:
    return Snapshot(moref, "keysapart-test", TAKEN, disks or (DISK,), "vm-1")

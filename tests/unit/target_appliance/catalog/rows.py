"""Rows for the catalog's tests."""

from common.ids import AgentId, DiskKey, PointNumber, ReplicaId, SyncId, TenantId
from target_appliance.catalog.model import PointRow
from target_appliance.catalog.points import row_of
from target_appliance.recovery.types import DiskRecord, DiskSpec, PointRecord, SyncKind

ACME = TenantId("acme")
GLOBEX = TenantId("globex")
VM1 = ReplicaId("11111111-1111-4111-8111-111111111111")
VM2 = ReplicaId("22222222-2222-4222-8222-222222222222")
AGENT1 = AgentId("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")
AGENT2 = AgentId("bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb")


def sync(number: int) -> SyncId:
    return SyncId(f"{number:08x}-0000-4000-8000-000000000000")


def record(number: int, vm_name: str = "web", *, tenant: TenantId = ACME, replica: ReplicaId = VM1) -> PointRecord:
    """A committed point of two disks, 1 GiB in all."""
    kind = SyncKind.FULL if number == 1 else SyncKind.DELTA
    disks = tuple(
        DiskRecord(
            DiskSpec(DiskKey(key), "uuid", "label", 1 << 29, "path", "id", True, "pvscsi", 0, 0, "lsilogic", kind),
            None if number == 1 else PointNumber(number - 1),
            1,
            0,
            bytes(32),
        )
        for key in (2000, 2001)
    )
    return PointRecord(
        tenant,
        replica,
        PointNumber(number),
        sync(number),
        kind,
        vm_name,
        1_700_000_000 + number,
        1_700_000_100 + number,
        "crash",
        None if number == 1 else PointNumber(number - 1),
        bytes(32),
        disks,
        bytes([number]) * 32,
    )


def point(number: int, *, tenant: TenantId = ACME, replica: ReplicaId = VM1, stored: int = 1000) -> PointRow:
    return row_of(record(number, tenant=tenant, replica=replica), stored)

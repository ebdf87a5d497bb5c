"""Rows for the catalog's tests."""

from common.ids import AgentId, PointNumber, ReplicaId, SyncId, TenantId
from target_appliance.catalog.model import PointRow

ACME = TenantId("acme")
GLOBEX = TenantId("globex")
VM1 = ReplicaId("11111111-1111-4111-8111-111111111111")
VM2 = ReplicaId("22222222-2222-4222-8222-222222222222")
AGENT1 = AgentId("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")
AGENT2 = AgentId("bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb")


def sync(number: int) -> SyncId:
    return SyncId(f"{number:08x}-0000-4000-8000-000000000000")


def point(number: int, *, tenant: TenantId = ACME, replica: ReplicaId = VM1, stored: int = 1000) -> PointRow:
    kind = "full" if number == 1 else "delta"
    return PointRow(
        tenant, replica, PointNumber(number), kind, 1_700_000_000 + number, 1 << 30, stored, bytes([number]) * 32
    )

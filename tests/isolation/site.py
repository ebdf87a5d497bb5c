"""Two tenants at one appliance, each with an agent, an operator and a replica; and some who are shut out."""

import contextlib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self

import grpc

from common.clock import SystemClock
from common.ids import AgentId, DiskKey, SyncId, TenantId
from common.sync import codec
from common.sync.events import Done, Open
from common.tls import channel_credentials, load_identity
from common.wire.v1 import replication_pb2 as writing
from common.wire.v1 import replication_pb2_grpc as services
from target_appliance.catalog.model import TenantLimits, TenantRow
from target_appliance.identity.names import Role
from tests.fakes.served import Served
from tests.isolation.calls import CALLS, METHODS, Answer, Names, begin, call

VMS = {"acme": "aaaaaaaa-1111-4111-8111-111111111111", "rival": "bbbbbbbb-2222-4222-8222-222222222222"}
REVOKED = "00000000-0000-4000-8000-000000000030"


def absent() -> Names:
    """An object that nobody has, or ever had."""
    name = str(uuid.uuid4())
    return Names(name, name)


@dataclass
class Site:
    """Two tenants, each with an agent, an operator, a replica of one point and an open sync."""

    serving: Served
    channels: dict[str, grpc.Channel] = field(default_factory=dict)
    held: set[tuple[str, str]] = field(default_factory=set)

    def admit(self, who: str, tenant: str, number: int, role: Role = Role.AGENT) -> None:
        files = self.serving.admit(tenant, f"00000000-0000-4000-8000-{number:012}", role)
        credentials = channel_credentials(load_identity(files, SystemClock()))
        self.channels[who] = grpc.secure_channel(
            self.serving.address, credentials, [("grpc.use_local_subchannel_pool", 1)]
        )

    def ask(self, who: str, path: str, names: Names) -> Answer:
        return call(self.channels[who], path, METHODS[path], CALLS[path](names))

    def opened(self, tenant: str) -> str:
        """A new open sync of the tenant's replica, which ends the one before."""
        stub = services.ReplicationStub(self.channels[f"agent of {tenant}"])
        base = 1 if (tenant, VMS[tenant]) in self.held else 0
        return str(stub.BeginSync(begin(VMS[tenant], base), timeout=30).sync)

    def commit(self, tenant: str) -> None:
        """The replica's first point: a disk of zeros."""
        channel, sync = self.channels[f"agent of {tenant}"], self.opened(tenant)
        stub = services.ReplicationStub(channel)
        frames = [codec.encode(Open(SyncId(sync), DiskKey(2000))), codec.encode(Done(0, 0))]
        list(channel.stream_stream(codec.WRITE_METHOD, None, writing.WriteAck.FromString)(iter(frames), timeout=30))
        stub.CommitSync(writing.CommitSyncRequest(sync=sync), timeout=30)
        self.held.add((tenant, VMS[tenant]))

    def names(self, tenant: str) -> Names:
        return Names(VMS[tenant], self.opened(tenant))

    def forget(self) -> None:
        """End what syncs of names that were not there have begun, so that the next one finds them absent again."""
        for entry in self.serving.desk._syncs.all():
            if entry.owner.tenant == "acme" and entry.replica != VMS["acme"]:
                self.serving.desk.end(entry, "it was only asked for")

    @classmethod
    @contextlib.contextmanager
    def opened_at(cls, serving: Served) -> Iterator[Self]:
        """The tenants at an appliance that serves already."""
        made = cls(serving)
        with contextlib.ExitStack() as life:
            for number, tenant in enumerate(VMS):
                made.admit(f"agent of {tenant}", tenant, 10 + number)
                made.admit(f"operator of {tenant}", tenant, 20 + number, Role.OPERATOR)
                made.commit(tenant)
            made.admit("revoked", "acme", 30)
            serving.behind.catalog.revoke_agent(AgentId(REVOKED))
            for role in Role:
                made.admit(f"suspended {role}", "gone", 40 + len(role), role)
            serving.behind.catalog.put_tenant(TenantRow(TenantId("gone"), TenantLimits(), suspended=1))
            for channel in made.channels.values():
                life.callback(channel.close)
            yield made

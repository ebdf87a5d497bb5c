"""An agent with a good certificate that sends what no agent should."""

from collections.abc import Iterator, Sequence

import grpc

from common.clock import SystemClock
from common.config import load
from common.errors import KeysapartError
from common.ids import DiskKey, SyncId, parse_sync
from common.sync import codec
from common.sync.events import PROTOCOL_VERSION, Batch, GrainRecord, Open
from common.tls import load_identity
from common.wire.v1 import replication_pb2 as wire
from source_agent.config import AgentConfig
from source_agent.stream.channel import Target
from tests.lab.site import Lab

DISK = DiskKey(2000)


def send(lab: Lab, replica: str, records: Sequence[GrainRecord]) -> KeysapartError | None:
    """Begin a sync of a made-up VM and send one batch; what the appliance answered, None if it took it."""
    config = load(lab.agent_toml, AgentConfig)
    target = Target(str(config.target.address), load_identity(config.target.files, SystemClock()))
    try:
        sync = parse_sync(target.begin(_request(replica)).sync)
        try:
            for ack in target.write(_frames(sync, records)):
                assert not ack.done
        except grpc.RpcError as refused:
            return target.explain(refused)
        finally:
            target.abort(sync, "the test is over")
        return None
    finally:
        target.close()


def _frames(sync: SyncId, records: Sequence[GrainRecord]) -> Iterator[bytes]:
    yield codec.encode(Open(sync, DISK))
    yield codec.encode(Batch(1, records))


def _request(replica: str) -> wire.BeginSyncRequest:
    disk = wire.Disk(
        key=DISK,
        uuid="6000C290-0000-0000-0000-000000000001",
        label="Hard disk 1",
        capacity_bytes=8 << 20,
        backing_path="[lab] rogue/rogue.vmdk",
        change_id="52 00/1",
        controller="pvscsi",
        adapter="lsilogic",
        kind=wire.SYNC_KIND_FULL,
    )
    return wire.BeginSyncRequest(
        protocol_version=PROTOCOL_VERSION,
        replica=replica,
        vm_name="rogue",
        kind=wire.SYNC_KIND_FULL,
        disks=[disk],
        snapshot_time_seconds=1,
        consistency="crash",
    )

"""A hostile client with a valid certificate against the running appliance: clean statuses, nothing kept, still serving.

What a client sends is tried by the hundred thousand in process, under ``tests/hostile``; tried here are a process's
bounds (memory, time, threads), bytes that are no frames at all, and what one tenant can learn of another.
"""

import random
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import lz4.block
import psutil
import pytest

from common.grain import GRAIN_BYTES, ZERO_DIGEST, GrainKind, digest
from common.ids import DiskKey, SyncId
from common.sync import codec
from common.sync.events import Batch, Done, GrainRecord, Open
from common.wire.v1 import replication_pb2 as wire
from common.wire.v1 import replication_pb2_grpc as services
from tests.end_to_end.ledger import Ledger
from tests.end_to_end.pair import Pair
from tests.lab.site import Lab

IDLE_SECONDS = 4
DISKS = 16
GROWTH_BYTES = 64 << 20


class Client:
    """Speaks to the data port with an agent's certificate, in whatever bytes it likes."""

    def __init__(self, pair: Pair, folder: Path) -> None:
        read = [(folder / name).read_bytes() for name in ("ca.crt", "agent.key", "agent.crt")]
        self.channel = grpc.secure_channel(
            f"127.0.0.1:{pair.lab.data_port}",
            grpc.ssl_channel_credentials(*read),
            options=[("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)],
        )
        self.stub = services.ReplicationStub(self.channel)
        self._write = self.channel.stream_stream(
            codec.WRITE_METHOD, request_serializer=lambda data: data, response_deserializer=wire.WriteAck.FromString
        )

    def begin(self, disks: int = 1, capacity: int = 16 << 20) -> str:
        """A sync of a replica that nobody else writes."""
        described = [
            wire.Disk(
                key=2000 + number,
                uuid="6000C29-a",
                label="Hard disk",
                capacity_bytes=capacity,
                backing_path="[ds] a.vmdk",
                adapter="lsilogic",
                kind=wire.SYNC_KIND_FULL,
            )
            for number in range(disks)
        ]
        request = wire.BeginSyncRequest(
            protocol_version=1,
            replica=str(uuid.uuid4()),
            vm_name="hostile01",
            kind=wire.SYNC_KIND_FULL,
            disks=described,
            consistency="crash",
        )
        return str(self.stub.BeginSync(request, timeout=30).sync)

    def write(self, frames: Iterable[bytes], seconds: float = 30) -> Any:
        """Send a stream; how it ended: OK, or the call's status."""
        try:
            for _ack in self._write(iter(frames), timeout=seconds):
                pass
        except grpc.RpcError as error:
            return error
        return None

    def close(self) -> None:
        self.channel.close()


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A serving pair with a short patience for silent streams, and an honest VM with a point."""
    with Lab(tmp_path_factory.mktemp("hostile") / "lab", disk_mib=8) as lab:
        config = lab.appliance_toml
        config.write_text(config.read_text().replace("idle_seconds = 60", f"idle_seconds = {IDLE_SECONDS}"))
        with Pair(lab) as pair, Ledger(pair, "plain01") as made:
            made.sync()
            yield made
            made.write(1 << 18)
            assert made.sync()["kind"] == "delta"
            made.check()


@pytest.fixture
def client(ledger: Ledger) -> Iterator[Client]:
    """The tenant's own agent, turned hostile; afterwards the appliance holds nothing of it and goes on serving."""
    made = Client(ledger.pair, ledger.pair.folder / "agent")
    before = memory(ledger)
    yield made
    made.close()
    grown = memory(ledger) - before
    assert grown < GROWTH_BYTES, f"{grown >> 20} MiB more than before"
    points = list((ledger.pair.folder / "store").glob("tenants/*/replicas/*/points/*"))
    assert {path.parents[1].name for path in points} == {ledger.replica}, "something hostile was committed"
    assert "Traceback" not in ledger.pair.log.read_text()
    later = Client(ledger.pair, ledger.pair.folder / "agent")
    sync = later.begin()
    assert later.write(honest(sync, 2000)) is None
    later.stub.AbortSync(wire.AbortSyncRequest(sync=sync, cause="only a test"), timeout=30)
    later.close()


def memory(ledger: Ledger) -> int:
    """Resident bytes of the appliance."""
    assert ledger.pair.appliance is not None
    return int(psutil.Process(ledger.pair.appliance.process.pid).memory_info().rss)


def raw(grain: int, content: bytes) -> GrainRecord:
    return GrainRecord(grain, GrainKind.RAW, digest(content), content)


def packed(grain: int, content: bytes) -> GrainRecord:
    return GrainRecord(grain, GrainKind.LZ4, digest(content), squeezed(content))


def squeezed(content: bytes) -> bytes:
    """LZ4 of ``content``, without its length."""
    return bytes(lz4.block.compress(content, store_size=False))


TEXT = (b"what a guest writes, again and again; " * 2000)[:GRAIN_BYTES]
NOISE = random.Random(1).randbytes(GRAIN_BYTES)


def opening(sync: str, disk: int = 2000) -> bytes:
    """A stream's first frame."""
    return codec.encode(Open(SyncId(sync), DiskKey(disk)))


def honest(sync: str, disk: int) -> list[bytes]:
    """A stream that would be accepted."""
    batches = [
        Batch(1, [packed(0, TEXT), raw(1, NOISE), GrainRecord(7, GrainKind.ZERO, ZERO_DIGEST, b"")]),
        Batch(2, [packed(8, TEXT)]),
    ]
    return [opening(sync, disk), *(codec.encode(event) for event in (*batches, Done(2, 4)))]


def refused_commit(client: Client, sync: str) -> None:
    """A sync with a broken stream cannot become a point."""
    with pytest.raises(grpc.RpcError) as caught:
        client.stub.CommitSync(wire.CommitSyncRequest(sync=sync), timeout=30)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION, caught.value
    client.stub.AbortSync(wire.AbortSyncRequest(sync=sync, cause="only a test"), timeout=30)


def clean(error: Any, ledger: Ledger) -> None:
    """One sentence, without paths of the machine and without what Python says of itself."""
    text = error.details()
    assert text, error
    assert "\n" not in text, text
    assert str(ledger.pair.folder) not in text, text
    assert "Traceback" not in text, text
    assert "Error(" not in text, text

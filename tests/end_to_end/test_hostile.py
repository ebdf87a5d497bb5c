"""A hostile client with a valid certificate against the running appliance: clean statuses, nothing kept, still serving.

What single frames may not say is tried in process beside the server's own tests; here are the process's bounds (memory,
time, threads), bytes that are no frames at all, and what one tenant can learn of another.
"""

import contextlib
import random
import re
import socket
import ssl
import time
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
from common.sync.events import MAX_FRAME_BYTES, Batch, Done, GrainRecord, Open
from common.wire.v1 import replication_pb2 as wire
from common.wire.v1 import replication_pb2_grpc as services
from tests.end_to_end.ledger import Ledger
from tests.end_to_end.pair import TENANT, Pair
from tests.lab.site import Lab

pytestmark = pytest.mark.lab

IDLE_SECONDS = 4
DISKS = 16
GROWTH_BYTES = 64 << 20
MUTANTS = 400
BROKEN = {grpc.StatusCode.DATA_LOSS, grpc.StatusCode.INVALID_ARGUMENT}
UNKNOWN_SYNC = "0b8f5d53-1f57-4ec4-a4be-52b2ad0b4b52"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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


def test_an_honest_stream_is_accepted(client: Client) -> None:
    """What the others vary is good by itself."""
    sync = client.begin()
    assert client.write(honest(sync, 2000)) is None
    client.stub.AbortSync(wire.AbortSyncRequest(sync=sync, cause="only a test"))


def test_mutants_of_every_frame(ledger: Ledger, client: Client) -> None:
    rng = random.Random(20261124)
    ended: dict[str, int] = {}
    sync, disk = "", DISKS
    for _ in range(MUTANTS):
        if disk == DISKS:
            if sync:
                refused_commit(client, sync)
            sync, disk = client.begin(DISKS), 0
        frames = honest(sync, 2000 + disk)
        disk += 1
        place = rng.randrange(len(frames))
        frames[place] = mutated(rng, frames[place])
        error = client.write(frames)
        code = "OK" if error is None else error.code().name
        ended[code] = ended.get(code, 0) + 1
        if error is not None:
            clean(error, ledger)
            # A frame may also turn into the opening of another stream: of no sync, or of one that is not this one.
            assert error.code() in BROKEN | {grpc.StatusCode.NOT_FOUND}, (error, frames[place][:80])
    print(f"{MUTANTS} mutants: {ended}")
    assert ended["DATA_LOSS"] > MUTANTS // 2
    refused_commit(client, sync)


def mutated(rng: random.Random, frame: bytes) -> bytes:
    """One thing wrong with a frame."""
    data = bytearray(frame)
    at = rng.randrange(len(data))
    match rng.randrange(5):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            del data[at:]
        case 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 64))
        case 3:
            data[at : at + 16] = rng.randbytes(16)
        case _:
            head = rng.randrange(min(24, len(data)))  # where lengths and tags are
            data[head] = rng.randrange(256)
    return bytes(data)


def test_broken_streams_hold_no_files(ledger: Ledger, client: Client) -> None:
    assert ledger.pair.appliance is not None
    process = psutil.Process(ledger.pair.appliance.process.pid)
    before = process.num_fds()
    syncs = []
    for _ in range(8):
        syncs.append(client.begin(DISKS))
        for disk in range(DISKS):
            error = client.write(honest(syncs[-1], 2000 + disk)[:-1])
            assert error is not None
            assert error.code() is grpc.StatusCode.DATA_LOSS
    assert process.num_fds() < before + DISKS, "the syncs are open still, their files must not be"
    for sync in syncs:
        refused_commit(client, sync)


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


BOMB = squeezed(bytes(16 << 20))[: GRAIN_BYTES - 1]


@pytest.mark.parametrize(
    "record",
    [
        GrainRecord(0, GrainKind.LZ4, ZERO_DIGEST, BOMB),
        GrainRecord(0, GrainKind.LZ4, digest(TEXT), squeezed(TEXT[:-1])),
        GrainRecord(0, GrainKind.LZ4, digest(TEXT), squeezed(TEXT + b"x")),
        GrainRecord(0, GrainKind.RAW, ZERO_DIGEST, NOISE),
        GrainRecord(0, GrainKind.ZERO, digest(NOISE), b""),
        GrainRecord(256, GrainKind.ZERO, ZERO_DIGEST, b""),
        GrainRecord((1 << 32) - 1, GrainKind.ZERO, ZERO_DIGEST, b""),
    ],
    ids=["bomb", "short", "long", "another digest", "zero that is none", "past the end", "far past the end"],
)
def test_grain_that_is_not_what_it_says(ledger: Ledger, client: Client, record: GrainRecord) -> None:
    sync = client.begin()
    frames = [opening(sync), codec.encode(Batch(1, [record]))]
    error = client.write(frames)
    assert error is not None
    assert error.code() is grpc.StatusCode.DATA_LOSS
    clean(error, ledger)
    refused_commit(client, sync)


@pytest.mark.parametrize("size", [MAX_FRAME_BYTES + 1, 64 << 20])
def test_message_that_is_too_long(ledger: Ledger, client: Client, size: int) -> None:
    sync = client.begin(4)
    before = memory(ledger)
    for disk in range(4):
        error = client.write([opening(sync, 2000 + disk), bytes(size)])
        assert error is not None
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert memory(ledger) - before < GROWTH_BYTES
    refused_commit(client, sync)


def test_metadata_that_is_too_long(ledger: Ledger, client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.stub.DescribeReplica(
            wire.DescribeReplicaRequest(replica=ledger.replica), metadata=[("x-long", "a" * (64 << 10))], timeout=30
        )
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_silent_stream_is_cut(client: Client) -> None:
    sync = client.begin()
    began = time.monotonic()

    def frames() -> Iterator[bytes]:
        yield opening(sync)
        time.sleep(3 * IDLE_SECONDS)  # gRPC pulls on a thread of its own; the call ends before this does

    error = client.write(frames(), seconds=60)
    assert error is not None
    assert error.code() is grpc.StatusCode.CANCELLED
    assert IDLE_SECONDS <= time.monotonic() - began < 3 * IDLE_SECONDS
    refused_commit(client, sync)


def test_idle_connections_are_cut_and_harm_nobody(ledger: Ledger, client: Client) -> None:
    address = ("127.0.0.1", ledger.pair.lab.data_port)
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(address, timeout=20)) for _ in range(100)]
        began = time.monotonic()
        client.stub.DescribeReplica(wire.DescribeReplicaRequest(replica=ledger.replica), timeout=5)
        for one in idle:
            with contextlib.suppress(ConnectionResetError):
                while one.recv(4096):
                    pass
        assert time.monotonic() - began < 15, "a handshake that never comes is waited for too long"


def test_no_certificate_no_call(ledger: Ledger, client: Client) -> None:
    context = ssl.create_default_context(cafile=str(ledger.pair.folder / "agent" / "ca.crt"))
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", ledger.pair.lab.data_port), timeout=20) as plain:
        assert _first_byte(context, plain) == b""


def _first_byte(context: ssl.SSLContext, plain: socket.socket) -> bytes:
    """What the server says first; nothing when it hangs up, politely or not."""
    try:
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
            return secure.recv(1)
    except (ssl.SSLError, ConnectionResetError):
        return b""


# One tenant and another.


@pytest.fixture(scope="module")
def strangers(ledger: Ledger) -> Iterator[dict[str, Client]]:
    """An agent of another tenant, and another agent of the same tenant."""
    made = {}
    for who, tenant in (("another tenant", "rival"), ("another agent", TENANT)):
        folder = ledger.pair.folder / who.replace(" ", "-")
        ledger.pair.done("tenants", "add", tenant, "--out", folder)
        made[who] = Client(ledger.pair, folder)
    yield made
    for one in made.values():
        one.close()


def _calls(client: Client, sync: str) -> dict[str, Any]:
    """What every RPC that names a sync answers."""
    found: dict[str, Any] = {"WriteDisk": client.write([opening(sync)])}
    for name, request in {
        "GetManifest": wire.GetManifestRequest(sync=sync, disk=2000),
        "RenewLease": wire.RenewLeaseRequest(sync=sync),
        "CommitSync": wire.CommitSyncRequest(sync=sync),
        "AbortSync": wire.AbortSyncRequest(sync=sync, cause="x"),
    }.items():
        try:
            answer = getattr(client.stub, name)(request, timeout=30)
            found[name] = list(answer) if name == "GetManifest" else answer
        except grpc.RpcError as error:
            found[name] = error
    return found


def _told(error: Any) -> tuple[Any, ...]:
    """All that a refusal tells, ids aside."""
    details = [(key, _UUID.sub("ID", str(value))) for key, value in error.trailing_metadata() or ()]
    return error.code(), _UUID.sub("ID", error.details()), sorted(details)


@pytest.mark.parametrize("who", ["another tenant", "another agent"])
def test_foreign_sync_looks_like_none(client: Client, strangers: dict[str, Client], who: str) -> None:
    sync = client.begin()
    foreign, absent = (_calls(strangers[who], one) for one in (sync, UNKNOWN_SYNC))
    for name, error in foreign.items():
        assert error.code() is grpc.StatusCode.NOT_FOUND, (name, error)
        assert _told(error) == _told(absent[name]), name
    # The owner's sync was not touched by any of it.
    assert client.write(honest(sync, 2000)) is None
    client.stub.AbortSync(wire.AbortSyncRequest(sync=sync, cause="only a test"), timeout=30)


def test_foreign_replica_looks_like_none(ledger: Ledger, client: Client, strangers: dict[str, Client]) -> None:
    rival = strangers["another tenant"].stub
    foreign, absent = (
        rival.DescribeReplica(wire.DescribeReplicaRequest(replica=replica), timeout=30)
        for replica in (ledger.replica, UNKNOWN_SYNC)
    )
    assert foreign == absent
    assert not foreign.HasField("newest")
    own = client.stub.DescribeReplica(wire.DescribeReplicaRequest(replica=ledger.replica), timeout=30)
    assert own.newest.number == len(ledger.points)

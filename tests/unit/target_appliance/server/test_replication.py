"""The data port with hand-made clients: what is refused, how, and that nothing comes of it."""

import os
import threading
import time
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from sqlalchemy import update

from common.errors import (
    BusyError,
    CertificateError,
    FencedError,
    InvalidInputError,
    KeyNotUsableError,
    KeysapartError,
    LimitExceededError,
    NotFoundError,
    PreconditionError,
    ProtocolError,
    StoreError,
)
from common.grain import GRAIN_BYTES, GrainKind, digest
from common.ids import AgentId
from common.status_map import from_rpc_error
from common.sync import codec
from common.sync.events import Batch, Done, GrainRecord, Open
from common.wire.v1 import replication_pb2 as wire
from target_appliance.catalog.model import leases
from target_appliance.config import Limits
from target_appliance.kms.port import KekState
from target_appliance.receive.open_sync import LEASE_SECONDS
from tests.fakes.served import PARK_SECONDS, served

VM = "11111111-1111-4111-8111-111111111111"
ABSENT = "99999999-9999-4999-8999-999999999999"
ONE = "00000000-0000-4000-8000-00000000000a"
TWO = "00000000-0000-4000-8000-00000000000b"
STRANGER = "00000000-0000-4000-8000-00000000000c"


@pytest.fixture
def server(tmp_path):
    with served(tmp_path, limits=Limits(streams_per_tenant=2, idle_seconds=60)) as serving:
        yield serving


@pytest.fixture
def client(server):
    yield from _client(server, "acme", ONE)


@pytest.fixture
def stranger(server):
    yield from _client(server, "rival", STRANGER)


def _client(server, tenant, agent):
    target = server.target(server.admit(tenant, agent))
    yield target
    target.close()


def _disk(**changes):
    fields = {
        "key": 2000,
        "uuid": "u",
        "label": "Hard disk 1",
        "capacity_bytes": 1 << 20,
        "backing_path": "[ds] a.vmdk",
        "change_id": "52 ff/1",
        "adapter": "lsilogic",
        "kind": wire.SYNC_KIND_FULL,
    }
    return wire.Disk(**(fields | changes))


def _request(**changes):
    fields = {
        "protocol_version": 1,
        "replica": VM,
        "vm_name": "web01",
        "kind": wire.SYNC_KIND_FULL,
        "disks": [_disk()],
        "snapshot_time_seconds": 1,
        "consistency": "crash",
    }
    return wire.BeginSyncRequest(**(fields | changes))


def _grain(index=0):
    data = os.urandom(GRAIN_BYTES)
    return GrainRecord(index, GrainKind.RAW, digest(data), data)


def _write(target, *events):
    try:
        return list(target.write(iter([codec.encode(event) for event in events])))
    except grpc.RpcError as error:
        raise from_rpc_error(error, subject="target") from error


def _whole(target, sync, *records):
    batches = [Batch(1, list(records))] if records else []
    return _write(target, Open(sync, 2000), *batches, Done(len(batches), len(records)))


def test_a_point(server, client):
    begun = client.begin(_request())
    acks = _whole(client, begun.sync, _grain())
    assert [(ack.durable_sequence, ack.done) for ack in acks] == [(1, True)]
    committed = client.commit(begun.sync)
    assert committed.point == begun.point == 1
    newest = client.describe(VM).newest
    assert (newest.number, newest.record_hash, newest.disks[0]) == (1, committed.record_hash, _disk())
    (row,) = server.behind.catalog.points("acme", VM)
    assert row.stored_bytes == committed.stored_bytes


def test_the_target_tells_its_clock(server, client, monkeypatch):
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    monkeypatch.setattr(server.behind.clock, "now", lambda: moment)
    assert client.describe(VM).time_seconds == moment.timestamp()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"protocol_version": 2}, ProtocolError),
        ({"replica": "../../etc"}, InvalidInputError),
        ({"replica": VM.upper().replace("1", "A")}, InvalidInputError),
        ({"kind": 9}, InvalidInputError),
        ({"kind": 0}, InvalidInputError),
        ({"disks": []}, InvalidInputError),
        ({"disks": [_disk(), _disk()]}, InvalidInputError),
        ({"disks": [_disk(key=n) for n in range(257)]}, InvalidInputError),
        ({"disks": [_disk(capacity_bytes=0)]}, InvalidInputError),
        ({"disks": [_disk(capacity_bytes=513)]}, InvalidInputError),
        ({"disks": [_disk(capacity_bytes=1 << 60)]}, InvalidInputError),
        ({"disks": [_disk(adapter="floppy")]}, InvalidInputError),
        ({"disks": [_disk(key=1 << 31)]}, InvalidInputError),
        ({"disks": [_disk(label="\x1b[2J")]}, InvalidInputError),
        ({"vm_name": "x" * 1025}, InvalidInputError),
        ({"vm_name": "two\nlines"}, InvalidInputError),
        ({"consistency": "perfect"}, InvalidInputError),
        ({"base_point": 3}, PreconditionError),
        ({"kind": wire.SYNC_KIND_DELTA, "disks": [_disk(kind=wire.SYNC_KIND_DELTA)]}, PreconditionError),
    ],
)
def test_a_sync_that_cannot_be(server, client, changes, kind):
    with pytest.raises(kind):
        client.begin(_request(**changes))
    assert server.behind.catalog.live_syncs() == frozenset()
    assert server.behind.vault.points("acme", VM) == ()


def _every_sync_call(target, sync):
    yield lambda: target.manifest(sync, 2000, [])
    yield lambda: _whole(target, sync)
    yield lambda: target.renew(sync)
    yield lambda: target.commit(sync)


@pytest.mark.parametrize("place", range(4))
def test_foreign_and_absent_syncs_look_the_same(client, stranger, place):
    begun = client.begin(_request())
    answers = []
    for sync in (begun.sync, ABSENT):
        with pytest.raises(NotFoundError) as caught:
            list(_every_sync_call(stranger, sync))[place]()
        answers.append(str(caught.value).replace(sync, "SYNC"))
    assert answers[0] == answers[1]
    _whole(client, begun.sync)
    assert client.commit(begun.sync).point == 1


def test_a_foreign_replica_is_one_that_is_not_there(client, stranger):
    begun = client.begin(_request())
    _whole(client, begun.sync, _grain())
    client.commit(begun.sync)
    assert not stranger.describe(VM).HasField("newest")
    assert stranger.begin(_request()).point == 1


def test_a_commit_needs_every_disk(server, client):
    begun = client.begin(_request(disks=[_disk(), _disk(key=2001)]))
    _whole(client, begun.sync, _grain())
    with pytest.raises(PreconditionError, match="disk 2001 is not complete"):
        client.commit(begun.sync)
    assert server.behind.vault.points("acme", VM) == ()


def test_a_disk_is_written_once(client):
    begun = client.begin(_request())
    _whole(client, begun.sync)
    with pytest.raises(ProtocolError, match="twice"):
        _whole(client, begun.sync)
    with pytest.raises(ProtocolError, match="not part of the sync"):
        _write(client, Open(begun.sync, 77), Done(0, 0))


def _cut(target, *events):
    """A stream that ends without a word after these events were kept."""
    gate = _Gate([codec.encode(event) for event in events])
    call = target.write(iter(gate))
    for ack in call:
        if ack.kept_sequence == sum(isinstance(event, Batch) for event in events):
            break
    return gate, call


def _progress(answer):
    return [(one.disk, one.finished, one.next_grain) for one in answer.disks]


def test_a_cut_stream_goes_on_where_the_target_stands(server, client):
    begun = client.begin(_request(disks=[_disk(), _disk(key=2001)]))
    grains = [_grain(index) for index in (0, 3, 7, 12)]
    opening = Open(begun.sync, 2000, answer_each=True)
    gate, call = _cut(client, opening, Batch(1, grains[:1]), Batch(2, grains[1:2]))
    call.cancel()
    gate.open.set()
    assert _progress(client.resume(begun.sync, VM)) == [(2000, False, 4), (2001, False, 0)]

    # This one the target takes for alive; asking ends it.
    gate, call = _cut(client, opening, Batch(1, grains[2:3]))
    assert _progress(client.resume(begun.sync, VM)) == [(2000, False, 8), (2001, False, 0)]
    with pytest.raises(grpc.RpcError):
        list(call)
    gate.open.set()

    with pytest.raises(ProtocolError, match="cannot be"):
        _whole(client, begun.sync, grains[2])
    with pytest.raises(PreconditionError, match="disk 2000 can never be complete"):
        client.resume(begun.sync, VM)
    with pytest.raises(NotFoundError):
        client.resume(begun.sync, VM)


def test_what_was_sent_in_pieces_is_a_point(server, client):
    begun = client.begin(_request())
    grains = [_grain(index) for index in (0, 3, 7)]
    for grain in grains:
        gate, call = _cut(client, Open(begun.sync, 2000, answer_each=True), Batch(1, [grain]))
        call.cancel()
        gate.open.set()
        assert _progress(client.resume(begun.sync, VM)) == [(2000, False, grain.grain + 1)]
    _whole(client, begun.sync)
    assert _progress(client.resume(begun.sync, VM)) == [(2000, True, 8)]
    committed = client.commit(begun.sync)
    assert client.resume(begun.sync, VM).committed == committed
    with server.behind.vault.view("acme", VM, 2000, 1) as view:
        held = list(view.read(0, 16))
    assert [held[grain.grain] for grain in grains] == [grain.data for grain in grains]
    assert sum(grain is not None for grain in held) == 3


def test_a_finished_disk_and_a_lapsed_sync(server, client, stranger):
    begun = client.begin(_request())
    for other in _client(server, "acme", TWO):
        with pytest.raises(NotFoundError):
            other.resume(begun.sync, VM)
    with pytest.raises(NotFoundError):
        stranger.resume(begun.sync, VM)
    kek = server.behind.vault.require_key("acme")
    server.kms.set_state(kek, KekState.DEACTIVATED)
    with pytest.raises(KeyNotUsableError):
        client.resume(begun.sync, VM)
    server.kms.set_state(kek, KekState.ACTIVE)
    assert _progress(client.resume(begun.sync, VM)) == [(2000, False, 0)]
    client.abort(begun.sync, "enough")
    with pytest.raises(NotFoundError):
        client.resume(begun.sync, VM)


def test_a_commit_that_goes_on_is_said_so(server, client):
    begun = client.begin(_request())
    _whole(client, begun.sync, _grain())
    (entry,) = server.desk._syncs.all()
    entry.close_for_commit()
    assert client.resume(begun.sync, VM).committing
    assert server.desk._syncs.silent() == []


def test_an_aborted_sync_is_over(server, client):
    begun = client.begin(_request())
    client.abort(begun.sync, "the user's \x1b wish")
    with pytest.raises(NotFoundError):
        _whole(client, begun.sync)
    assert server.behind.vault.syncs.sweep("acme", VM) == ()
    assert client.begin(_request()).point == 1


def test_the_same_agent_takes_over_and_the_older_sync_is_fenced(server, client):
    first = client.begin(_request())
    second = client.begin(_request())
    with pytest.raises((NotFoundError, FencedError)):
        _whole(client, first.sync, _grain())
    _whole(client, second.sync, _grain())
    assert client.commit(second.sync).point == 1
    assert server.behind.vault.syncs.sweep("acme", VM) == ()


def test_another_agent_waits_until_the_lease_lapses(server, client):
    for other in _client(server, "acme", TWO):
        client.begin(_request())
        with pytest.raises(BusyError):
            other.begin(_request())
        with pytest.raises(BusyError):
            other.describe(VM)


@pytest.fixture
def later(server, monkeypatch):
    """Moves the server's monotonic clock on."""
    monotonic = server.behind.clock.monotonic
    skipped = [0.0]
    monkeypatch.setattr(server.behind.clock, "monotonic", lambda: monotonic() + skipped[0])

    def skip(seconds):
        skipped[0] += seconds

    return skip


def _staged(server):
    return server.store.names(f"tenants/acme/replicas/{VM}/staging")


def test_a_silent_agents_sync_is_parked_and_goes_on(server, client, later):
    begun = client.begin(_request())
    gate, call = _cut(client, Open(begun.sync, 2000, answer_each=True), Batch(1, [_grain(3)]))
    assert server.desk.settle_silent() == 0
    later(LEASE_SECONDS + 1)
    assert server.desk.settle_silent() == 1
    assert server.desk.settle_silent() == 0
    with pytest.raises(grpc.RpcError):
        list(call)
    gate.open.set()
    assert _progress(client.resume(begun.sync, VM)) == [(2000, False, 4)]
    _whole(client, begun.sync, _grain(4))
    assert client.commit(begun.sync).point == 1


def test_a_parked_sync_ends_when_its_replica_is_wanted(server, client, later):
    begun = client.begin(_request())
    later(LEASE_SECONDS + 1)
    assert server.desk.settle_silent() == 1
    _lapse(server)
    for other in _client(server, "acme", TWO):
        newer = other.begin(_request())
        assert _staged(server) == (newer.sync,)
        with pytest.raises(NotFoundError):
            client.resume(begun.sync, VM)


def _lapse(server):
    """Leases count by the wall clock, which stands still here."""
    with server.behind.catalog._database.writing() as connection:
        connection.execute(update(leases).values(expires=0.0))


def test_a_parked_sync_does_not_wait_for_ever(server, client, later):
    client.begin(_request())
    later(LEASE_SECONDS + 1)
    assert server.desk.settle_silent() == 1
    later(PARK_SECONDS)
    server.desk.settle_silent()
    assert _staged(server) == ()
    assert server.behind.catalog.live_syncs() == frozenset()


def test_streams_are_capped_per_tenant(server, client, stranger):
    begun = client.begin(_request(disks=[_disk(key=key) for key in (1, 2, 3)]))
    held = []
    try:
        for key in (1, 2):
            gate = _Gate([codec.encode(Open(begun.sync, key)), codec.encode(Batch(1, [_grain()]))])
            held.append((gate, client.write(iter(gate))))
        _until_written(server, {1, 2})
        with pytest.raises(LimitExceededError, match="2 streams open"):
            _write(client, Open(begun.sync, 3), Done(0, 0))
        other = stranger.begin(_request())
        _whole(stranger, other.sync)
        assert stranger.commit(other.sync).point == 1
    finally:
        for gate, call in held:
            gate.open.set()
            call.cancel()


def _until_written(server, disks):
    """Return when the server has read the first frame of a stream for each of the disks."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if any(entry.writing.keys() >= disks for entry in server.desk._syncs.all()):
            return
        time.sleep(0.01)
    raise AssertionError("the streams never began")


class _Gate:
    """Frames, and then silence until the test opens it."""

    def __init__(self, frames):
        self.frames, self.open = frames, threading.Event()

    def __iter__(self):
        yield from self.frames
        self.open.wait(30)


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"\xff\xff"],
        [wire.WriteFrame(open=wire.WriteOpen(sync="x", disk=1)).SerializeToString()],
        [wire.WriteFrame(done=wire.WriteDone()).SerializeToString()],
    ],
)
def test_frames_that_mean_nothing(client, frames):
    with pytest.raises(grpc.RpcError) as caught:
        list(client.write(iter(frames)))
    assert isinstance(from_rpc_error(caught.value, subject="t"), (ProtocolError, InvalidInputError))


def test_a_frame_over_the_limit_ends_the_stream(client):
    begun = client.begin(_request())
    frame = wire.WriteFrame(batch=wire.GrainBatch(data=bytes(3 << 20))).SerializeToString()
    with pytest.raises(grpc.RpcError) as caught:
        list(client.write(iter([codec.encode(Open(begun.sync, 2000)), frame])))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_agent_that_is_not_registered_is_told_no_more_than_that(server, client, capfd):
    issued = server.behind.authority.issue_agent("acme", AgentId(TWO))
    files = server.admit("acme", STRANGER)
    files.certificate.write_bytes(issued.certificate_pem)
    files.key.write_bytes(issued.key_pem)
    target = server.target(files)
    with pytest.raises(CertificateError, match="does not accept this certificate") as caught:
        target.describe(VM)
    target.close()
    assert TWO not in str(caught.value)


def test_too_many_ranges(client):
    begun = client.begin(_request())
    with pytest.raises(InvalidInputError, match="65537 ranges"):
        client.manifest(begun.sync, 2000, [(2 * n, 1) for n in range(65537)])


def test_an_unexpected_failure_is_told_without_details(server, client, capfd):
    def broken(*_):
        raise ValueError("secret detail")

    server.behind.vault.newest = broken
    with pytest.raises(KeysapartError, match="failed unexpectedly") as caught:
        client.describe(VM)
    assert "secret" not in str(caught.value)
    captured = capfd.readouterr()
    assert "ValueError" in captured.err + captured.out
    assert "test_replication.py" in captured.err + captured.out
    assert "secret" not in captured.err + captured.out


def test_a_point_whose_row_is_missing_gets_it_at_the_next_commit(server, client):
    record_point = server.behind.catalog.record_point

    def broken(*_):
        raise StoreError("the catalog does not work", subject="catalog", next_step="mend it")

    server.behind.catalog.record_point = broken
    begun = client.begin(_request())
    _whole(client, begun.sync, _grain())
    with pytest.raises(StoreError):
        client.commit(begun.sync)
    assert client.describe(VM).newest.number == 1
    server.behind.catalog.record_point = record_point
    again = client.begin(_request(base_point=1))
    _whole(client, again.sync)
    assert client.commit(again.sync).point == 2
    assert [row.number for row in server.behind.catalog.points("acme", VM)] == [1, 2]

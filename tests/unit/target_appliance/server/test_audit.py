"""What the audit log knows of calls, and what cannot be called while it cannot be written."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from common.errors import CertificateError, NotFoundError, StoreError
from common.grain import GRAIN_BYTES, GrainKind, digest
from common.status_map import from_rpc_error
from common.sync import codec
from common.sync.events import Batch, Done, GrainRecord, Open
from common.wire.v1 import replication_pb2 as wire
from target_appliance.audit.check import read, verify
from tests.fakes.served import Served, served

VM = "11111111-1111-4111-8111-111111111111"
AGENT = "00000000-0000-4000-8000-00000000000a"
RIVAL = "00000000-0000-4000-8000-00000000000b"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as serving:
        yield serving


@pytest.fixture
def client(server: Served) -> Iterator[Any]:
    target = server.target(server.admit("acme", AGENT))
    yield target
    target.close()


def begin(target: Any, kind: int = wire.SYNC_KIND_FULL, base: int = 0) -> Any:
    disk = wire.Disk(key=2000, uuid="u", label="Hard disk 1", capacity_bytes=1 << 20, adapter="lsilogic", kind=kind)
    disk.backing_path, disk.change_id = "[ds] a.vmdk", "52 ff/1"
    request = wire.BeginSyncRequest(protocol_version=1, replica=VM, vm_name="web01", kind=kind, disks=[disk])
    request.snapshot_time_seconds, request.consistency = 1, "crash"
    request.base_point = base
    return target.begin(request)


def write(target: Any, sync: str) -> None:
    data = os.urandom(GRAIN_BYTES)
    events = [Open(sync, 2000), Batch(1, [GrainRecord(0, GrainKind.RAW, digest(data), data)]), Done(1, 1)]
    try:
        list(target.write(iter([codec.encode(event) for event in events])))
    except grpc.RpcError as error:
        raise from_rpc_error(error, subject="target") from error


def told(server: Served) -> list[dict[str, Any]]:
    server.behind.recorder.settle(last=True)
    return [raw.line.members for raw in read(server.folder / "audit") if raw.line is not None]


def test_a_sync_from_its_keys_to_its_point(server: Served, client: Any) -> None:
    sync = begin(client).sync
    write(client, sync)
    committed = client.commit(sync)
    lines = told(server)
    assert [one["what"] for one in lines] == [
        "kek-created",
        "kek-claimed",
        "dek-wrapped",
        "sync-begun",
        "disk-written",
        "sync-committed",
    ]
    assert {(one["role"], one["actor"], one["tenant"]) for one in lines} == {("agent", AGENT, "acme")}
    _, _, wrapped, begun, _, done = lines
    assert wrapped["facts"] == {"replica": VM, "disk": 2000, "epoch": 1}
    assert (begun["object"], begun["facts"]["sync"], begun["facts"]["point"]) == (f"replica {VM}", sync, 1)
    assert begun["facts"]["tls"] == "TLSv1.3"
    assert len(begun["facts"]["certificate"]) == 64
    assert begun["facts"]["key_exchange"]
    assert begun["facts"]["peer"].startswith("ipv4:127.0.0.1:")
    assert done["facts"]["record_hash"] == committed.record_hash.hex()
    assert verify(server.folder / "audit").trouble is None


def test_a_read_is_told_before_anything_goes_out(server: Served, client: Any) -> None:
    sync = begin(client).sync
    write(client, sync)
    client.commit(sync)
    again = begin(client, wire.SYNC_KIND_COMPARE, base=1).sync
    assert client.manifest(again, 2000, [(0, 16)])
    lines = [one for one in told(server) if one["what"] in {"manifest-read", "dek-unwrapped"}]
    outcomes = [(one["what"], one["outcome"]) for one in lines]
    assert ("manifest-read", "begun") in outcomes
    assert outcomes[-1] == ("manifest-read", "ok")
    assert lines[-1]["facts"]["disk"] == 2000


def test_refusals_name_who_was_refused_and_why(server: Served, client: Any) -> None:
    for _ in range(50):
        with pytest.raises(NotFoundError):
            client.commit("99999999-9999-4999-8999-999999999999")
    stranger = server.target(server.admit("rival", RIVAL))
    server.behind.catalog.revoke_agent(RIVAL)
    for _ in range(3):
        with pytest.raises(CertificateError):
            begin(stranger)
    stranger.close()
    refused = [one for one in told(server) if one["what"] == "refused"]
    assert [(one["role"], one["object"], one["outcome"]) for one in refused] == [
        ("agent", "call CommitSync", "NOT_FOUND"),
        ("stranger", "call BeginSync", "CERTIFICATE"),
        ("agent", "call CommitSync", "NOT_FOUND"),
        ("stranger", "call BeginSync", "CERTIFICATE"),
    ]
    assert refused[1]["actor"] == f"certificate {refused[1]['facts']['certificate']}"
    assert RIVAL in refused[1]["facts"]["cause"]
    assert [one["facts"] for one in refused[2:]] == [{"repeated": 49}, {"repeated": 2}]


def test_a_sync_that_ends_without_a_point(server: Served, client: Any) -> None:
    first = begin(client).sync
    second = begin(client).sync
    client.abort(second, "no more")
    ended = [one for one in told(server) if one["what"] == "sync-ended"]
    assert [(one["facts"]["sync"], one["facts"]["why"]) for one in ended] == [
        (first, "a newer sync of this VM took over"),
        (second, "the agent ended it"),
    ]


def test_without_the_log_running_syncs_end_and_none_begins(server: Served, client: Any) -> None:
    sync = begin(client).sync
    folder = server.folder / "audit"
    folder.rename(server.folder / "aside")
    folder.write_text("in the way")

    write(client, sync)
    assert client.commit(sync).point == 1
    for _ in range(2):
        with pytest.raises(StoreError, match="nothing new is accepted or read"):
            begin(client)
    folder.unlink()
    (server.folder / "aside").rename(folder)
    begin(client, base=1)
    lines = [(one["what"], one["outcome"]) for one in told(server)]
    resumed = lines.index(("log-resumed", "ok"))
    assert lines[resumed + 1 : resumed + 4] == [
        ("disk-written", "ok"),
        ("sync-committed", "ok"),
        ("refused", "STORE"),
    ]
    assert verify(folder).trouble is None

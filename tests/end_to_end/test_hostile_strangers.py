"""What another tenant, and another agent of the same tenant, learn of a sync and a replica: that there is none."""

import re
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from common.wire.v1 import replication_pb2 as wire
from tests.end_to_end.hostile import Client, client, honest, ledger, opening
from tests.end_to_end.ledger import Ledger
from tests.end_to_end.pair import TENANT

__all__ = ["client", "ledger"]

pytestmark = pytest.mark.lab

UNKNOWN_SYNC = "0b8f5d53-1f57-4ec4-a4be-52b2ad0b4b52"
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


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

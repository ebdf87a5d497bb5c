"""Keys that are taken back, or changed, and a KMS that falls silent, while syncs run."""

import pytest

from common.errors import KeyNotUsableError, KmsUnavailableError, PreconditionError
from common.sync.events import Batch, Done, Open
from common.wire.v1 import replication_pb2 as wire
from target_appliance.kms.port import KekState
from tests.fakes.served import served
from tests.unit.target_appliance.server.test_replication import (
    ONE,
    VM,
    _client,
    _disk,
    _grain,
    _request,
    _whole,
    _write,
)


@pytest.fixture
def server(tmp_path):
    with served(tmp_path) as serving:
        yield serving


@pytest.fixture
def client(server):
    yield from _client(server, "acme", ONE)


def test_a_key_that_is_taken_back_ends_a_sync_under_way(server, client, monkeypatch):
    first, second = client.begin(_request()), client.begin(_request(replica=ONE))
    _whole(client, second.sync)
    kek = server.behind.vault.require_key("acme")
    monkeypatch.setattr("target_appliance.recovery.keyring.ASK_SECONDS", 0.0)
    server.kms.set_state(kek, KekState.DEACTIVATED)
    with pytest.raises(KeyNotUsableError, match="deactivated"):
        _write(client, Open(first.sync, 2000), Batch(1, [_grain()]))
    with pytest.raises(KeyNotUsableError, match="deactivated"):
        client.commit(second.sync)
    assert server.desk._syncs.all() == []
    assert server.behind.vault.points("acme", ONE) == ()
    assert server.behind.vault.syncs.sweep("acme", VM) == ()


def test_a_kms_that_is_silent_for_too_long_cuts_a_sync_that_goes_on_later(server, client, monkeypatch):
    begun = client.begin(_request())
    keyring = server.behind.vault.keyring
    alive = server.kms.state
    monkeypatch.setattr("target_appliance.recovery.keyring.ASK_SECONDS", 0.0)

    def silent(_kek):
        raise KmsUnavailableError("the KMS does not answer", subject="kms", next_step="wait")

    server.kms.state = silent
    _write(client, Open(begun.sync, 2000, answer_each=True), Batch(1, [_grain()]), Done(1, 1))
    with pytest.raises(KmsUnavailableError):
        client.begin(_request(replica=ONE))
    keyring._confirmed._words["tenant acme"].confirmed -= 900
    with pytest.raises(KmsUnavailableError):
        client.commit(begun.sync)
    server.kms.state = alive
    assert client.commit(begun.sync).point == 1


def test_a_rotated_data_key_is_told_and_a_delta_on_the_old_one_refused(server, client):
    begun = client.begin(_request())
    _whole(client, begun.sync, _grain())
    client.commit(begun.sync)
    assert not client.describe(VM).begins_chain
    server.behind.vault.keyring.rotate_dek("acme", VM)
    assert client.describe(VM).begins_chain
    delta = _request(base_point=1, kind=wire.SYNC_KIND_DELTA, disks=[_disk(kind=wire.SYNC_KIND_DELTA)])
    with pytest.raises(PreconditionError, match="was rotated"):
        client.begin(delta)
    begun = client.begin(_request(base_point=1))
    _whole(client, begun.sync, _grain())
    assert client.commit(begun.sync).point == 2
    assert not client.describe(VM).begins_chain

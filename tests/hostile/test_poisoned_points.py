"""A stolen agent's certificate floods a replica with points of all times: nothing real inside the keep span goes."""

import json
import random
from datetime import UTC, datetime, timedelta

import grpc
import pytest

from common.grain import GRAIN_BYTES, GrainKind, digest
from common.sync import codec
from common.sync.events import Batch, Done, GrainRecord, Open
from common.wire.v1 import replication_pb2 as wire
from target_appliance.audit import recorder
from target_appliance.identity.names import Role
from target_appliance.recovery.types import SyncKind
from target_appliance.retention.keeper import Keeper
from target_appliance.retention.plan import plan
from target_appliance.retention.policy import parse
from target_appliance.retention.steward import MANY, MANY_EMPTY
from target_appliance.server.rpc_policy import POLICY
from target_appliance.store.memory import MemoryStore
from tests.fakes.clock import ManualClock
from tests.fakes.replica import REPLICA, TENANT, World, grain_bytes, spec
from tests.fakes.served import Served, served

pytestmark = pytest.mark.usefixtures("uncovered")

POINTS = 1000
REAL = 40
"""Points before the flood, six hours apart."""
AGENT = "00000000-0000-4000-8000-00000000000a"
OPERATOR = "00000000-0000-4000-8000-00000000000b"
TIMES = (0, 1, -1, (1 << 63) - 1, -(1 << 63), 4_102_444_800, 946_684_800, 1_795_000_000)
"""Of snapshots, as the thief tells them."""


@pytest.fixture
def real() -> World:
    """A replica that was synced for ten days until an hour ago."""
    began = datetime.now(UTC) - timedelta(hours=6 * (REAL - 1) + 1)
    world = World(store=MemoryStore(), clock=ManualClock(began))
    for number in range(REAL):
        kind = SyncKind.DELTA if number else SyncKind.FULL
        world.sync({spec(capacity_bytes=1 << 20, kind=kind): {number % 16: grain_bytes(number)}}, kind)
        world.clock.advance(6 * 3600)
    return world


def flood(server: Served, rng: random.Random) -> None:
    """Points from the wire: empty ones, full ones, and deltas that overwrite, with times of all kinds."""
    files = server.admit(TENANT, AGENT)
    target = server.target(files)
    try:
        for number in range(REAL, REAL + POINTS):
            full = rng.random() < 0.1
            kind = wire.SYNC_KIND_FULL if full else wire.SYNC_KIND_DELTA
            disk = wire.Disk(key=2000, uuid="u", capacity_bytes=1 << 20, adapter="lsilogic", kind=kind)
            begun = target.begin(
                wire.BeginSyncRequest(
                    protocol_version=1,
                    replica=REPLICA,
                    vm_name="web01",
                    kind=kind,
                    disks=[disk],
                    base_point=number,
                    snapshot_time_seconds=rng.choice(TIMES),
                    consistency="crash",
                )
            )
            data = rng.randbytes(GRAIN_BYTES)
            records = [] if rng.random() < 0.7 else [GrainRecord(0, GrainKind.RAW, digest(data), data)]
            batches = [Batch(1, records)] if records else []
            events = [Open(begun.sync, 2000), *batches, Done(len(batches), len(records))]
            list(target.write(iter([codec.encode(event) for event in events])))
            assert target.commit(begun.sync).point == number + 1
    finally:
        target.close()


def test_a_flood_pushes_nothing_real_out_of_the_span(real: World, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(recorder, "MOST_ACTS", 1 << 30)  # it would last two hours
    with served(tmp_path, store=real.store, kms=real.kms) as server:
        vault = server.behind.vault
        Keeper(vault).set_tenant(TENANT, parse(["last=3 hourly=4 daily=5 weekly=2 within=3d"]), None)
        before = {one.number: one for one in plan(vault, TENANT, REPLICA).verdicts}
        flood(server, random.Random(20))
        found = plan(vault, TENANT, REPLICA)

    after = {one.number: one for one in found.verdicts}
    times = {record.number: record.retention_time for record in found.records}
    newest = max(times.values())
    inside = [number for number in before if newest - times[number] <= 3 * 86400]
    assert len(after) == REAL + POINTS
    assert len(inside) >= 11
    assert [number for number in inside if not after[number].kept] == []
    # Beyond the span too: the flood is of one hour or two, and what stands for an older day or week still does.
    periods = ("daily ", "weekly ")
    stood = [number for number, one in before.items() if any(reason.startswith(periods) for reason in one.reasons)]
    lost = [number for number in stood if not after[number].kept]
    assert len(stood) >= 5
    assert len(lost) <= len(periods), "one new day and one new week at most have begun meanwhile"
    points, empty = found.last_day
    assert points >= POINTS > MANY
    assert empty > MANY_EMPTY


def test_no_rpc_drops_a_point_and_who_tries_is_told_of(real: World, tmp_path) -> None:
    assert not [
        path for path in POLICY if any(word in path.lower() for word in ("drop", "delete", "prune", "retention"))
    ]
    services = sorted({path.rsplit("/", 1)[0] for path in POLICY})
    with served(tmp_path, store=real.store, kms=real.kms) as server:
        server.behind.catalog.add_tenant(TENANT)
        Keeper(server.behind.vault).set_tenant(TENANT, parse(["last=1"]), 30)
        for caller, role in ((AGENT, Role.AGENT), (OPERATOR, Role.OPERATOR)):
            files = server.admit(TENANT, caller, role)
            target = server.target(files)
            try:
                for service in services:
                    call = target._channel.unary_unary(f"{service}/DropPoint")
                    for _ in range(100):
                        with pytest.raises(grpc.RpcError) as caught:
                            call(b"", timeout=20)
                        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
            finally:
                target.close()
        server.behind.recorder.settle(last=True)
        assert server.behind.vault.point_numbers(TENANT, REPLICA) == tuple(range(1, REAL + 1))
    told = [
        json.loads(line) for path in sorted((tmp_path / "audit").glob("*")) for line in path.read_text().splitlines()
    ]
    for caller in (AGENT, OPERATOR):
        refused = [line for line in told if line.get("what") == "refused" and line["actor"] == caller]
        assert sum(line["facts"].get("repeated", 1) for line in refused) == 100 * len(services)

"""Faults around a running pair: key server and store that go and come back, signals, a vCenter that misbehaves."""

import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.errors import EXIT_INTERRUPTED, EXIT_REFUSED, EXIT_TRY_LATER
from tests.end_to_end.gate import Gate, gated
from tests.end_to_end.ledger import Ledger
from tests.end_to_end.mounts import may_mount, mounted, remount
from tests.end_to_end.pair import Pair
from tests.end_to_end.refusing import away, ended, sentence, syncing, unharmed
from tests.end_to_end.waiting import until
from tests.lab.site import Lab

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("uncovered")]

VM = "plain01"
PARTS = ("kms", "store", "catalog", "replication")
HEALTH_SECONDS = 10.0
STOP_SECONDS = 15.0


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """A VM with a point; every test leaves the pair as good as it found it. Its store is a file system of its own."""
    folder = tmp_path_factory.mktemp("faults") / "lab"
    store = folder / "store"
    store.mkdir(parents=True)
    with (
        mounted(store, 512) if may_mount() else nullcontext(),
        Lab(folder, disk_mib=16) as lab,
        Pair(lab) as pair,
        Ledger(pair, VM) as made,
    ):
        made.sync()
        yield made


@pytest.fixture(autouse=True)
def no_faults_left(ledger: Ledger) -> Iterator[None]:
    """The vCenter behaves again after each test."""
    yield
    ledger.pair.lab.control("clear-faults")
    ledger.pair.lab.control("answers", "well")


@pytest.fixture
def gate(ledger: Ledger) -> Iterator[Gate]:
    """Between the agent and the appliance."""
    with gated(ledger.pair.lab) as made:
        yield made


# Health.


class Health:
    """The health port, asked."""

    def __init__(self, pair: Pair) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{pair.lab.health_port}")
        self._stub = health_pb2_grpc.HealthStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def failing(self) -> set[str]:
        """Parts that are not SERVING; the empty name is the whole."""
        return {name for name in ("", *PARTS) if not self._serves(name)}

    def _serves(self, name: str) -> bool:
        answer = self._stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def becomes(self, *failing: str) -> None:
        """Within HEALTH_SECONDS exactly these fail, and the whole does if any does."""
        wanted = {"", *failing} if failing else set()
        until(f"health says that {failing or 'nothing'} fails", lambda: self.failing() == wanted, HEALTH_SECONDS)


@pytest.fixture
def health(ledger: Ledger) -> Iterator[Health]:
    asked = Health(ledger.pair)
    asked.becomes()
    yield asked
    asked.close()


@pytest.mark.parametrize(("leave", "come_back"), [("stop", "start"), ("pause", "resume")])
def test_health_follows_the_kms(ledger: Ledger, health: Health, leave: str, come_back: str) -> None:
    with unharmed(ledger):
        ledger.pair.lab.control("kms", leave)
        try:
            health.becomes("kms")
        finally:
            ledger.pair.lab.control("kms", come_back)
        health.becomes()


def test_health_follows_the_store(ledger: Ledger, health: Health) -> None:
    store = ledger.pair.folder / "store"
    if not may_mount():
        pytest.skip("the store has no file system of its own to make read-only, that takes the right to mount")
    with unharmed(ledger):
        remount(store, "ro")
        try:
            health.becomes("store")
            refused = ledger.pair.source("sync", VM)
            sentence(refused, EXIT_TRY_LATER, "Read-only file system", "check the store's file system")
            ledger.check_source()
        finally:
            remount(store, "rw")
        health.becomes()


def test_kms_gone_in_mid_sync_ends_no_sync(ledger: Ledger, gate: Gate) -> None:
    with syncing(ledger, gate, "--json") as sync:
        content = ledger.content()
        ledger.pair.lab.control("kms", "stop")
        try:
            gate.release()
            outcome = ended(sync)
        finally:
            ledger.pair.lab.control("kms", "start")
    assert outcome.code == 0, outcome
    ledger.settle(content, outcome.json["point"])
    ledger.check()


# Signals.


def test_sigterm_of_an_idle_appliance(ledger: Ledger) -> None:
    with unharmed(ledger), away(ledger.pair):
        assert ledger.pair.appliance is not None
        began = time.monotonic()
        assert ledger.pair.appliance.stop() == 0
        assert time.monotonic() - began < STOP_SECONDS
        log = ledger.pair.log.read_text()
        assert "stopped" in log.splitlines()[-1]
        assert "Traceback" not in log


def test_sigterm_of_the_appliance_in_mid_sync(ledger: Ledger, gate: Gate) -> None:
    with unharmed(ledger), away(ledger.pair):
        with syncing(ledger, gate) as sync:
            assert ledger.pair.appliance is not None
            began = time.monotonic()
            assert ledger.pair.appliance.stop() == 0
            assert time.monotonic() - began < STOP_SECONDS
            gate.release()
            refused = ended(sync)
        sentence(refused, EXIT_TRY_LATER, f"127.0.0.1:{gate.port}", "target-appliance serves")
        ledger.check_source()
        assert ledger.staged() == [], "a clean end leaves nothing to sweep"
        assert "Traceback" not in ledger.pair.log.read_text()


@pytest.mark.parametrize("stalled", [False, True], ids=["flowing", "stalled"])
def test_ctrl_c_in_mid_sync_leaves_nothing(ledger: Ledger, gate: Gate, stalled: bool) -> None:
    with unharmed(ledger):
        with syncing(ledger, gate) as sync:
            sync.send_signal(signal.SIGINT)
            if not stalled:
                gate.release()
            refused = ended(sync)
            gate.release()
        sentence(refused, EXIT_INTERRUPTED, "SIGINT", "nothing was committed", "run it again", "was removed")
        ledger.check_source()


@pytest.mark.parametrize("stalled", [False, True], ids=["flowing", "stalled"])
def test_sigterm_in_mid_sync_parks_it(ledger: Ledger, gate: Gate, stalled: bool) -> None:
    pair = ledger.pair
    with syncing(ledger, gate) as sync:
        content = ledger.content()
        sync.send_signal(signal.SIGTERM)
        if not stalled:
            gate.release()
        parked = ended(sync)
        gate.release()
    assert len(pair.lab.control("snapshots", VM)) == 1
    told = f"the sync of VM {VM} for point {len(ledger.points) + 1} is parked"
    sentence(parked, EXIT_INTERRUPTED, "SIGTERM", told, "sync it again within 4h", f"VM {VM} stands for it")
    assert pair.lab.control("orphans") == [], "a parked sync has no disk attached"
    ledger.write()
    report = pair.sync(VM)
    assert report["resumed"], report
    ledger.settle(content, report["point"])
    ledger.check_source()
    ledger.sync()
    ledger.check()
    ledger.check_source()


# A vCenter that misbehaves.


def _compared(ledger: Ledger, rule: str) -> None:
    """The next sync is a compare because of ``rule``, and the one after it trusts the tracking again."""
    ledger.write()
    report = ledger.sync()
    assert (report["kind"], report["disks"][0]["kind"], report["disks"][0]["rule"]) == ("compare", "compare", rule)
    assert report["disks"][0]["grains_unchanged"] > 64, "a compare sends what differs"
    ledger.check()
    ledger.pair.lab.control("answers", "well")
    ledger.write()
    assert ledger.sync()["kind"] == "delta"
    ledger.check()
    ledger.check_source()


@pytest.mark.parametrize("fault", ["FileFault", "InvalidArgument"])
def test_change_query_that_fails_becomes_a_compare(ledger: Ledger, fault: str) -> None:
    ledger.pair.lab.control("fault", "QueryChangedDiskAreas", fault, "--count", 1)
    _compared(ledger, "change-list")


@pytest.mark.parametrize("how", ["stuck", "elsewhere", "outside"])
def test_change_list_that_cannot_be_becomes_a_compare(ledger: Ledger, how: str) -> None:
    ledger.pair.lab.control("answers", how)
    _compared(ledger, "change-list")


def test_reset_of_change_tracking_becomes_a_compare(ledger: Ledger) -> None:
    ledger.pair.lab.control("reset-cbt", VM)
    _compared(ledger, "tracking-reset")


@pytest.mark.parametrize("fallback", [False, True])
def test_quiescing_that_fails(ledger: Ledger, fallback: bool) -> None:
    lab = ledger.pair.lab
    before = lab.agent_toml.read_text()
    quiescing = f'quiesce = "filesystem"\nquiesce_fallback = {str(fallback).lower()}'
    lab.agent_toml.write_text(before.replace('quiesce = "none"', quiescing))
    try:
        ledger.write()
        lab.control("fault", "CreateSnapshot_Task", "ApplicationQuiesceFault", "--count", 1)
        assert ledger.sync()["consistency"] == "file-system", "it is tried twice"
        lab.control("fault", "CreateSnapshot_Task", "FilesystemQuiesceFault", "--count", 2)
        if fallback:
            ledger.write()
            report = ledger.sync()
            assert report["consistency"] == "crash"
            assert any("was not quiesced" in warning for warning in report["warnings"])
        else:
            with unharmed(ledger):
                refused = ledger.pair.source("sync", VM)
                words = (
                    f"taking the snapshot of VM {VM}",
                    "FilesystemQuiesceFault",
                    "VMware Tools",
                    "quiesce_fallback",
                )
                sentence(refused, EXIT_REFUSED, *words)
        ledger.check_source()
    finally:
        lab.agent_toml.write_text(before)


def test_snapshot_that_fails(ledger: Ledger) -> None:
    with unharmed(ledger):
        ledger.pair.lab.control("fault", "CreateSnapshot_Task", "SnapshotFault", "--count", 1)
        refused = ledger.pair.source("sync", VM)
        sentence(refused, EXIT_REFUSED, f"taking the snapshot of VM {VM}", "SnapshotFault", "by hand")


@pytest.mark.parametrize(
    ("method", "fault"),
    [
        ("CreateSnapshot_Task", "drop-after"),
        ("CreateSnapshot_Task", "TaskInProgress"),
        ("ReconfigVM_Task", "drop-after"),
        ("RemoveSnapshot_Task", "drop-after"),
        ("RemoveSnapshot_Task", "TaskInProgress"),
        ("WaitForUpdatesEx", "drop"),
        ("QueryChangedDiskAreas", "drop"),
    ],
)
def test_what_a_sync_rides_out(ledger: Ledger, method: str, fault: str) -> None:
    ledger.write()
    ledger.pair.lab.control("fault", method, fault, "--count", 1)
    assert ledger.sync()["kind"] == "delta"
    ledger.check()
    ledger.check_source()


def test_login_that_lapses_in_mid_sync(ledger: Ledger, gate: Gate) -> None:
    with syncing(ledger, gate, "--json") as sync:
        content = ledger.content()
        assert ledger.pair.lab.control("expire-sessions") >= 1
        gate.release()
        outcome = ended(sync)
    assert outcome.code == 0, outcome
    ledger.settle(content, outcome.json["point"])
    ledger.check()
    ledger.check_source()


def test_snapshot_that_cannot_be_removed_takes_no_point_back(ledger: Ledger) -> None:
    ledger.write()
    ledger.pair.lab.control("fault", "RemoveSnapshot_Task", "SnapshotFault")
    report = ledger.sync()
    assert any("may remain" in warning and VM in warning for warning in report["warnings"]), report["warnings"]
    assert len(ledger.pair.lab.control("snapshots", VM)) == 1
    ledger.pair.lab.control("clear-faults")
    ledger.write()
    assert ledger.sync()["kind"] == "delta"
    ledger.check()
    ledger.check_source()

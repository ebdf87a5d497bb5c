"""A whole sync: the agent over a vCenter in memory, the appliance in this process, real TLS between."""

import dataclasses
import os
import socket
import threading
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from common.cli_edge import error_object
from common.clock import SystemClock
from common.errors import (
    BusyError,
    ChangeTrackingError,
    InterruptedSyncError,
    KeyNotUsableError,
    KmsUnavailableError,
    LimitExceededError,
    PreconditionError,
    SourceError,
    TargetUnavailableError,
)
from common.grain import GRAIN_BYTES
from common.tls import load_identity
from source_agent.daemon.life import syncing
from source_agent.disk_read.memory import MemoryReader
from source_agent.outlook import look_ahead
from source_agent.plan import Kind
from source_agent.replicate import sync_vm
from source_agent.snapshot_limits import Limits
from source_agent.stop import Stop
from source_agent.stream.channel import Target
from source_agent.stream.pace import Pace
from source_agent.vsphere.memory import MemoryVSphere
from target_appliance.kms.port import KekState
from tests.faults.vsphere import FaultyVSphere
from tests.unit.source_agent.world import AGENT, OTHER, SIZES, Quiet


def test_full_then_deltas(world):
    world.scribble()
    first = world.sync()
    assert (first.point, first.kind, first.vm) == (1, "full", "web01")
    world.assert_equal(1)
    for point in (2, 3, 4):
        world.scribble()
        report = world.sync()
        assert (report.point, report.kind) == (point, "delta")
        assert report.bytes_read < sum(SIZES)
        world.assert_equal(point)
        assert world.snapshots() == []


def test_rewriting_the_same_bytes_sends_nothing(world):
    data = os.urandom(GRAIN_BYTES)
    world.write(2000, 0, data)
    world.sync()
    world.write(2000, 0, data)
    report = world.sync()
    assert report.kind == "delta"
    assert [disk.grains_unchanged for disk in report.disks] == [1, 0]
    assert [disk.grains_sent for disk in report.disks] == [0, 0]


def test_a_reset_makes_a_compare_that_sends_only_what_differs(world):
    world.scribble()
    world.sync()
    world.site.reset_tracking(world.vm.moref)
    world.write(2000, 3 * GRAIN_BYTES, os.urandom(512))
    report = world.sync()
    assert report.kind == "compare"
    assert report.bytes_read == sum(SIZES)
    assert sum(disk.grains_sent for disk in report.disks) == 1
    world.assert_equal(2)


def test_a_requested_full_starts_a_new_chain(world):
    world.scribble()
    world.sync()
    report = world.sync(requested=Kind.FULL)
    assert (report.kind, report.point) == ("full", 2)
    world.assert_equal(2)


def test_a_requested_compare_reads_everything_and_sends_what_differs(world):
    world.scribble()
    world.sync()
    world.write(2001, 0, os.urandom(512))
    report = world.sync(requested=Kind.COMPARE)
    assert (report.kind, report.bytes_read) == ("compare", sum(SIZES))
    assert sum(disk.grains_sent for disk in report.disks) == 1
    assert {disk.rule for disk in report.disks} == {"requested"}
    world.assert_equal(2)


def test_what_a_sync_would_do_is_told_before_and_then_done(world):
    world.scribble()
    seen = look_ahead(world.agent, "web01", rpo_seconds=60)
    assert (seen.plan.kind, seen.ready, seen.age_seconds, seen.rpo_kept) == (Kind.FULL, True, None, None)
    assert (seen.expectation.bytes_to_read, seen.expectation.bytes_to_send) == (sum(SIZES), None)
    world.sync()
    for _ in range(2):
        world.scribble()
        seen = look_ahead(world.agent, "web01", rpo_seconds=60)
        assert (seen.plan.kind, seen.plan.base is not None) == (Kind.DELTA, True)
        report = world.sync()
        assert report.kind == "delta"
        assert report.expected.bytes_to_read == report.bytes_read
    seen = look_ahead(world.agent, "web01", rpo_seconds=3600)
    assert seen.expectation.bytes_to_read is not None
    assert (seen.rpo_kept, look_ahead(world.agent, "web01", rpo_seconds=0).rpo_kept) == (True, False)
    assert seen.as_json()["disks"][0]["rule"] == "all-rules-hold"
    assert any("RPO of 3600 s: kept" in line for line in seen.lines())
    world.site.reset_tracking(world.vm.moref)
    seen = look_ahead(world.agent, "web01")
    assert (seen.plan.kind, seen.expectation.bytes_to_read) == (Kind.COMPARE, sum(SIZES))
    assert world.sync().kind == "compare"
    assert world.snapshots() == []


def test_what_would_be_refused_is_told_with_the_plan(world):
    world.site.machines[world.vm.moref].template = True
    seen = look_ahead(world.agent, "web01")
    assert not seen.ready
    assert seen.lines()[-1] == "web01 would be refused"
    assert any("is a template" in line for line in seen.lines())


def test_a_guest_that_encrypts_its_disk_is_told_of_in_the_report_and_in_every_plan(world):
    world.write(2000, 16 * GRAIN_BYTES, b"LUKS\xba\xbe\x00\x02")
    report = world.sync()
    assert any("disk 2000: the guest encrypts it itself (LUKS header)" in text for text in report.warnings)
    world.write(2000, 0, b"x")
    assert not any("LUKS" in text for text in world.sync().warnings)
    assert [one.rule for one in look_ahead(world.agent, "web01").findings if "LUKS" in one.sentence] == [
        "guest-encryption"
    ]


class _Refusing(MemoryVSphere):
    """A vCenter that answers change queries with a fault, as after a lost tracking file."""

    def changed_page(self, moref, snapshot, disk, change_id, offset):
        raise ChangeTrackingError("error caused by file web01-ctk.vmdk", subject="disk", next_step="compare")


def test_a_refused_change_list_becomes_a_compare_in_the_same_sync(world, tmp_path):
    world.scribble()
    world.sync()
    world.scribble()
    agent = world.make_agent(OTHER, tmp_path / "s2", vsphere=_Refusing(world.site))
    report = world.sync(agent)
    assert report.kind == "compare"
    assert {disk.rule for disk in report.disks} == {"change-list"}
    world.assert_equal(2)


class _Failing(MemoryReader):
    """A reader whose second disk cannot be opened."""

    def open(self, snapshot, disk):
        if disk.key == 2001:
            raise SourceError("the disk cannot be opened", subject="disk 2001", next_step="mend it")
        return super().open(snapshot, disk)


def test_one_failing_disk_commits_nothing_and_leaves_nothing(world, tmp_path):
    world.scribble()
    agent = world.make_agent(OTHER, tmp_path / "s2", reader=_Failing(world.site))
    with pytest.raises(SourceError, match="cannot be opened"):
        world.sync(agent)
    vault = world.server.behind.vault
    assert vault.points("acme", world.vm.instance_uuid) == ()
    assert world.snapshots() == []
    assert vault.syncs.sweep("acme", world.vm.instance_uuid) == ()
    assert world.sync().point == 1
    world.assert_equal(1)


def test_nothing_is_accepted_while_the_key_is_not_active(world):
    world.sync()
    kek = world.server.behind.vault.require_key("acme")
    world.server.kms.set_state(kek, KekState.DEACTIVATED)
    with pytest.raises(KeyNotUsableError, match="deactivated"):
        world.sync()
    assert world.snapshots() == []
    world.server.kms.set_state(kek, KekState.ACTIVE)
    assert world.sync().point == 2


def test_a_kms_that_is_away_refuses_before_a_snapshot_is_taken(world, monkeypatch):
    def away(kek_id):
        raise KmsUnavailableError("the KMS does not answer", subject="kms", next_step="wait")

    world.sync()
    world.server.kms.state = away
    with pytest.raises(KmsUnavailableError):
        world.sync()
    assert world.snapshots() == []


def test_another_agent_is_refused_while_the_first_is_at_work(world, tmp_path):
    second = world.make_agent(OTHER, tmp_path / "s2")

    class _Meanwhile(MemoryReader):
        def open(self, snapshot, disk):
            if disk.key == 2000:
                with pytest.raises(BusyError, match="lease lapses"):
                    world.sync(second)
            return super().open(snapshot, disk)

    first = world.make_agent("00000000-0000-4000-8000-00000000000c", tmp_path / "s3", reader=_Meanwhile(world.site))
    assert world.sync(first).point == 1
    assert world.sync(second).point == 2


def test_two_processes_of_one_agent_are_kept_apart_by_the_lock(world):
    class _Meanwhile(MemoryReader):
        def open(self, snapshot, disk):
            if disk.key == 2000:
                with pytest.raises(BusyError, match=f"pid {os.getpid()}"):
                    world.sync()
            return super().open(snapshot, disk)

    assert world.sync(dataclasses.replace(world.agent, reader=_Meanwhile(world.site))).point == 1


def test_a_leftover_snapshot_is_removed_first(world):
    name = f"keysapart-{AGENT}-00000000-0000-4000-8000-000000000001"
    world.site.take(world.vm.moref, name, f"keysapart-agent={AGENT}; x")
    world.site.take(world.vm.moref, "somebody else's", "x")
    with pytest.raises(PreconditionError, match="snapshots"):
        world.sync()
    assert [taken.info.name for taken in world.snapshots()] == ["somebody else's"]


def test_a_target_that_is_away(world, tmp_path):
    files = world.server.admit("acme", OTHER)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        target = Target(f"127.0.0.1:{closed.getsockname()[1]}", load_identity(files, SystemClock()))
        try:
            with pytest.raises(TargetUnavailableError, match="does not answer"):
                world.sync(dataclasses.replace(world.agent, target=target))
        finally:
            target.close()
    assert world.snapshots() == []


def test_a_snapshot_that_cannot_be_removed_does_not_undo_the_point(world, tmp_path):
    def broken():
        return SourceError("the host is busy", subject="vm web01", next_step="try later")

    faulty = FaultyVSphere(MemoryVSphere(world.site))
    faulty.fail("remove_snapshot", broken)
    world.scribble()
    report = world.sync(world.make_agent(OTHER, tmp_path / "s2", vsphere=faulty))
    assert report.point == 1
    assert any("may remain (the host is busy)" in text for text in report.warnings)
    world.assert_equal(1)
    assert len(world.snapshots()) == 1


def test_what_a_failed_clean_up_leaves_is_a_note_of_the_first_error(world, tmp_path):
    def broken():
        return SourceError("the host is busy", subject="vm web01", next_step="try later")

    faulty = FaultyVSphere(MemoryVSphere(world.site))
    faulty.fail("remove_snapshot", broken)
    agent = world.make_agent(OTHER, tmp_path / "s2", vsphere=faulty, reader=_Failing(world.site))
    with pytest.raises(SourceError, match="cannot be opened") as caught:
        world.sync(agent)
    assert any("may remain" in note for note in error_object(caught.value)["error"]["notes"])


def test_a_target_that_was_rolled_back_is_noticed(world):
    world.scribble()
    world.sync()
    world.scribble()
    world.sync()
    folder = f"tenants/acme/replicas/{world.vm.instance_uuid}/points"
    world.server.store.remove_tree(f"{folder}/000002")
    with pytest.raises(PreconditionError, match=r"shows point 1.*committed point 2"):
        world.sync()
    assert world.snapshots() == []
    report = sync_vm(world.agent, "web01", requested=None, progress=Quiet(), accept_rollback=True)
    assert (report.point, report.kind) == (2, "delta")
    world.assert_equal(2)
    assert world.sync().point == 3


def test_leftovers_on_another_vm_are_removed_at_any_start(world):
    """A process that died in a sync of another VM: its lock file still names it, and nobody holds it."""
    other = world.site.add_vm("db01", (1 << 20,))
    sync_vm(world.agent, "db01", requested=None, progress=Quiet())
    lock = world.agent.state_dir / f"vm-{other.instance_uuid}.lock"
    assert lock.read_bytes() == b""
    lock.write_text("4711\n")
    gone = world.agent.state_dir / "vm-99999999-9999-4999-8999-999999999999.lock"
    gone.write_text("4712\n")
    name = f"keysapart-{AGENT}-00000000-0000-4000-8000-000000000001"
    world.site.take(other.moref, name, f"keysapart-agent={AGENT}; x")
    world.sync()
    assert world.site.machines[other.moref].snapshots == []
    assert lock.read_bytes() == gone.read_bytes() == b""


def test_a_sync_that_is_asked_to_end_takes_its_snapshot_away(world):
    """Asked while bytes flow: the limit of one byte a second holds the stream in its middle."""
    world.write(2000, 0, os.urandom(4 << 20))
    stop = Stop()

    def limit():
        stop.ask("the agent is stopping")
        return 1.0

    files = world.server.admit("other", OTHER)
    slow = Target(world.server.address, load_identity(files, SystemClock()), pace=Pace(SystemClock(), limit))
    try:
        with pytest.raises(InterruptedSyncError, match="the agent is stopping"):
            world.sync(dataclasses.replace(world.agent, target=slow, stop=stop))
    finally:
        slow.close()
    assert world.snapshots() == []
    assert world.sync().point == 1


def test_a_sync_that_was_asked_before_it_began_takes_no_snapshot(world):
    vsphere = FaultyVSphere(MemoryVSphere(world.site))
    stop = Stop()
    stop.ask("the agent is stopping")
    with pytest.raises(InterruptedSyncError, match="the agent is stopping"):
        world.sync(dataclasses.replace(world.agent, vsphere=vsphere, stop=stop))
    assert vsphere.calls["create_snapshot"] == 0


def test_the_limit_holds_for_what_leaves(world):
    world.write(2000, 0, os.urandom(4 << 20))
    asked = []

    def limit():
        asked.append(True)

    files = world.server.admit("other", OTHER)
    paced = Target(world.server.address, load_identity(files, SystemClock()), pace=Pace(SystemClock(), limit))
    try:
        report = world.sync(dataclasses.replace(world.agent, target=paced))
    finally:
        paced.close()
    assert report.point == 1
    assert len(asked) >= 4


@pytest.mark.parametrize(
    ("failures", "fallback", "consistency"), [(0, False, "file-system"), (1, False, "file-system"), (9, True, "crash")]
)
def test_what_quiescing_came_to_is_recorded_in_the_point(world, failures, fallback, consistency):
    world.vm.quiesce_failures = failures
    report = world.sync(dataclasses.replace(world.agent, quiesce=True, quiesce_fallback=fallback))
    assert report.consistency == consistency
    assert any("was not quiesced" in warning for warning in report.warnings) is (consistency == "crash")


def test_a_leftover_that_cannot_be_removed_keeps_a_second_snapshot_from_being_taken(world, tmp_path):
    faulty = FaultyVSphere(MemoryVSphere(world.site))
    agent = dataclasses.replace(world.agent, vsphere=faulty)
    world.site.take(world.vm.moref, f"keysapart-{AGENT}-left", f"keysapart-agent={AGENT}; taken")
    faulty.fail("remove_snapshot", lambda: SourceError("the host refuses", subject="vm", next_step="look"))
    with pytest.raises(SourceError, match="the host refuses"):
        world.sync(agent)
    assert faulty.calls["create_snapshot"] == 0
    assert len(world.vm.snapshots) == 1
    assert world.sync(agent).point == 1
    assert world.vm.snapshots == []


def test_a_snapshot_past_its_age_ends_the_sync_and_is_gone(world):
    world.write(2000, 0, world.rng.randbytes(1 << 20))
    stopped = threading.Event()

    class Slow(MemoryReader):
        def open(self, snapshot, disk):
            assert stopped.wait(10)
            return super().open(snapshot, disk)

    class Asked(Stop):
        def ask(self, cause):
            super().ask(cause)
            stopped.set()

    agent = dataclasses.replace(
        world.agent, reader=Slow(world.site), limits=Limits(0.0, look_seconds=0.001), stop=Asked()
    )
    with pytest.raises(LimitExceededError, match="max_age allows 0s") as caught:
        world.sync(agent)
    assert "raise the limit" in caught.value.next_step
    assert world.vm.snapshots == []
    assert world.sync().point == 1


def test_syncs_of_the_daemon_have_connections_of_their_own(world):
    """What one sync gives up because its link broke must not break another's."""

    class Meddling(Quiet):
        def disk(self, task, total_bytes, count):
            world.agent.target.reconnect()

    world.scribble()
    vm = SimpleNamespace(moref=world.vm.moref, replica=world.vm.instance_uuid)
    with capture_logs() as logs:
        report = syncing(world.agent)(SimpleNamespace(vm=vm, compare=False), Stop(), Meddling())
    assert report.kind == "full"
    assert [line["event"] for line in logs if line["event"] == "the link broke"] == []
    again = syncing(world.agent)(SimpleNamespace(vm=vm, compare=True), Stop(), Quiet())
    assert (again.point, again.kind) == (2, "compare")

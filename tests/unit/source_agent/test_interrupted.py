"""A process that is killed in mid-sync, and the next one: it goes on with the same snapshot, or says why not."""

import dataclasses
import os
import random

import pytest

from common.errors import SourceError, TargetUnavailableError
from source_agent import in_flight
from source_agent.disk_read.memory import MemoryReader
from source_agent.outlook import look_ahead
from source_agent.plan import Kind
from source_agent.replicate import sync_vm
from tests.faults.vsphere import FaultyVSphere
from tests.unit.source_agent.world import AGENT, SIZES, Quiet

MIB = 1 << 20


class _Dying(MemoryReader):
    """Fails when it has read so many bytes of the first disk."""

    def __init__(self, site, after):
        super().__init__(site)
        self.left = after

    def open(self, snapshot, disk):
        opened = super().open(snapshot, disk)
        read_into = opened.read_into

        def dying(offset, buffer):
            if disk.key == 2000:
                self.left -= len(buffer)
                if self.left < 0:
                    raise SourceError("killed", subject="process", next_step="-")
            read_into(offset, buffer)

        opened.read_into = dying
        return opened


def killed(world, monkeypatch, after=3 * MIB):
    """A sync that ends as a killed process does: nothing is told, nothing is cleaned up. Returns its note."""
    faulty = FaultyVSphere(world.agent.vsphere)
    for _ in range(9):
        faulty.fail("remove_snapshot", lambda: SourceError("killed", subject="process", next_step="-"))
    agent = dataclasses.replace(world.agent, vsphere=faulty, reader=_Dying(world.site, after))
    with monkeypatch.context() as patch:
        patch.setattr(in_flight, "forget", lambda *_: None)
        patch.setattr(agent.target, "abort", lambda *_: None)
        with pytest.raises(SourceError, match="killed"):
            world.sync(agent)
    assert len(world.snapshots()) == 1
    note = in_flight.load(agent.state_dir, world.vm.instance_uuid)
    assert note is not None
    return note


def noise(world, seed):
    for key, size in zip((2000, 2001), SIZES, strict=True):
        world.write(key, 0, random.Random(seed + key).randbytes(size))


def images(world):
    return {key: world.site.image(world.vm.moref, key) for key in (2000, 2001)}


def assert_held(world, point, content):
    assert {key: world.held(point, key) for key in content} == content


def sync(world, agent=None, requested=None):
    progress = Quiet()
    report = sync_vm(agent or world.agent, "web01", requested=requested, progress=progress)
    return report, [text for text in progress.said if isinstance(text, str)]


@pytest.mark.parametrize("delta", [False, True], ids=["full", "delta"])
def test_the_next_process_goes_on_with_the_snapshot_of_the_first(world, monkeypatch, delta):
    noise(world, 1)
    if delta:
        world.sync()
        noise(world, 2)
    before = images(world)
    note = killed(world, monkeypatch)
    noise(world, 3)
    seen = look_ahead(world.agent, "web01")
    assert (seen.plan, "interrupted-sync" in {one.rule for one in seen.findings}) == (note.plan, True)
    assert "interrupted-sync" not in {
        one.rule for one in look_ahead(world.agent, "web01", requested=Kind.FULL).findings
    }
    report, said = sync(world)
    assert report.resumed
    assert (report.point, report.kind) == (note.point, "delta" if delta else "full")
    assert f"web01: going on with the sync that was interrupted, for point {note.point}" in said
    assert_held(world, note.point, before)
    assert world.snapshots() == []
    assert in_flight.load(world.agent.state_dir, world.vm.instance_uuid) is None
    later = images(world)
    report, _ = sync(world)
    assert (report.resumed, report.kind) == (False, "delta")
    assert_held(world, report.point, later)


def test_a_plan_knows_what_a_reset_does_to_a_sync_that_goes_on(world, monkeypatch):
    noise(world, 1)
    world.sync()
    noise(world, 2)
    before = images(world)
    note = killed(world, monkeypatch)
    world.site.reset_tracking(world.vm.moref)
    seen = look_ahead(world.agent, "web01")
    assert (seen.plan.kind, {disk.rule for disk in seen.plan.disks}) == (Kind.COMPARE, {"tracking-reset"})
    report, _ = sync(world)
    assert (report.resumed, report.kind) == (True, "compare")
    assert_held(world, note.point, before)


def test_a_plan_does_not_go_on_with_a_sync_whose_point_is_there(world, monkeypatch):
    noise(world, 1)
    note = killed(world, monkeypatch)
    sync(world)
    world.site.take(world.vm.moref, note.snapshot.name, f"keysapart-agent={AGENT}; as if it were still there")
    standing = dataclasses.replace(note.snapshot, moref=world.snapshots()[-1].info.moref)
    in_flight.save(world.agent.state_dir, world.vm.instance_uuid, dataclasses.replace(note, snapshot=standing))
    seen = look_ahead(world.agent, "web01")
    assert (seen.plan.kind, "interrupted-sync" in {one.rule for one in seen.findings}) == (Kind.DELTA, False)


def test_what_the_target_holds_is_not_sent_again(world, monkeypatch):
    noise(world, 1)
    killed(world, monkeypatch)
    report, _ = sync(world)
    assert report.bytes_sent < sum(SIZES)


def _no_sync(world, note):
    world.agent.target.abort(note.sync, "lost")


WHY_NOT = {
    "a full sync was asked for": (lambda *_: None, {"requested": Kind.FULL}, {}),
    "unreachable_minutes is 0": (lambda *_: None, {}, {"unreachable_seconds": 0.0}),
    "the target holds it no longer": (_no_sync, {}, {}),
}


@pytest.mark.parametrize("why", WHY_NOT)
def test_why_it_does_not_go_on(world, monkeypatch, why):
    harm, words, changes = WHY_NOT[why]
    noise(world, 1)
    note = killed(world, monkeypatch)
    harm(world, note)
    noise(world, 2)
    report, said = sync(world, dataclasses.replace(world.agent, **changes), **words)
    assert f"web01: the sync that was interrupted does not go on, {why}; a new one begins" in said
    assert not report.resumed
    assert world.snapshots() == []
    world.assert_equal(report.point)


def test_a_snapshot_that_is_gone(world, monkeypatch):
    noise(world, 1)
    killed(world, monkeypatch)
    for found in list(world.agent.vsphere.vm(world.vm.moref).snapshots):
        world.agent.vsphere.remove_snapshot(world.vm.moref, found.moref)
    report, said = sync(world)
    assert any("its snapshot is gone" in text for text in said)
    assert not report.resumed
    world.assert_equal(report.point)


def test_a_commit_whose_process_was_killed_before_the_answer(world, monkeypatch):
    noise(world, 1)
    before = images(world)
    commit = world.agent.target.commit

    def lost(sync_id):
        commit(sync_id)
        raise SourceError("killed", subject="process", next_step="-")

    monkeypatch.setattr(world.agent.target, "commit", lost)
    killed(world, monkeypatch, after=1 << 40)
    monkeypatch.setattr(world.agent.target, "commit", commit)
    world.write(2000, 0, os.urandom(512))
    report, said = sync(world)
    assert any("its point 1 is committed" in text for text in said)
    assert (report.point, report.kind, report.resumed) == (2, "delta", False)
    assert_held(world, 1, before)
    world.assert_equal(2)
    assert world.snapshots() == []


def test_another_vms_start_spares_the_snapshot_for_a_while_only(world, monkeypatch):
    world.site.add_vm("db01", (MIB,))
    noise(world, 1)
    killed(world, monkeypatch)
    sync_vm(world.agent, "db01", requested=None, progress=Quiet())
    assert len(world.snapshots()) == 1
    path = world.agent.state_dir / f"vm-{world.vm.instance_uuid}.sync"
    old = path.stat().st_mtime - world.agent.unreachable_seconds - 1
    os.utime(path, (old, old))
    sync_vm(world.agent, "db01", requested=None, progress=Quiet())
    assert world.snapshots() == []
    report, _ = sync(world)
    assert not report.resumed
    world.assert_equal(1)


def test_a_target_that_is_away_keeps_the_snapshot_for_a_while_only(world, monkeypatch):
    noise(world, 1)
    killed(world, monkeypatch)

    def away(*_):
        raise TargetUnavailableError("away", subject="target", next_step="wait")

    with monkeypatch.context() as patch:
        patch.setattr(world.agent.target, "resume", away)
        patch.setattr(world.agent.target, "describe", away)
        with pytest.raises(TargetUnavailableError):
            sync(world)
        assert len(world.snapshots()) == 1
        path = world.agent.state_dir / f"vm-{world.vm.instance_uuid}.sync"
        os.utime(path, (0, 0))
        with pytest.raises(TargetUnavailableError):
            sync(world)
    assert world.snapshots() == []


def test_a_note_that_cannot_be_read_is_none(world, monkeypatch):
    noise(world, 1)
    killed(world, monkeypatch)
    path = world.agent.state_dir / f"vm-{world.vm.instance_uuid}.sync"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes()[:40])
    report, _ = sync(world)
    assert not report.resumed
    assert world.snapshots() == []
    world.assert_equal(1)

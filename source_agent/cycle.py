"""The cycle of a sync: snapshot, plan, transfer.

The snapshot is gone whatever happens after it, unless the sync is parked. The point exists only when the target says
so.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from common import log
from common.errors import ChangeTrackingError, KeysapartError
from common.extent import Extent
from common.wire.v1 import replication_pb2 as wire
from source_agent import bookmark, in_flight, measured
from source_agent.bookmark import Bookmark
from source_agent.disk_sync import DiskTask
from source_agent.expect import Expectation, expect
from source_agent.in_flight import InFlight
from source_agent.needs import Agent
from source_agent.parking import settled
from source_agent.plan import DiskPlan, Kind, Plan, plan
from source_agent.progress import Progress
from source_agent.resume import Resumed
from source_agent.snapshot_limits import Watch, watched
from source_agent.transfer import Transfer, Transferred
from source_agent.trust import HeldPoint
from source_agent.vsphere.changed_extents import changed_extents
from source_agent.vsphere.past import NOTHING, Past
from source_agent.vsphere.port import Snapshot, VmInfo
from source_agent.vsphere.snapshots import snapshot, standing
from source_agent.wire_types import begin_request, held_point

_log = log.get("sync")


@dataclass(frozen=True)
class Ended:
    """A cycle whose point is committed."""

    done: Transferred
    taken: Snapshot
    decided: Plan
    expected: Expectation
    span_seconds: float | None
    """Between the newest point's snapshot and this one's."""
    remains: list[str]

    @property
    def bytes_read(self) -> int:
        """From all disks."""
        return sum(disk.bytes_read for disk in self.done.disks)

    @property
    def suspicions(self) -> list[str]:
        """Of encryption inside the guest, in words."""
        return [f"disk {disk.key}: {disk.suspicion}" for disk in self.done.disks if disk.suspicion]

    @property
    def bytes_sent(self) -> int:
        """Of all disks, in frames."""
        return sum(disk.bytes_sent for disk in self.done.disks)


def cycle(
    agent: Agent,
    vm: VmInfo,
    described: wire.DescribeReplicaResponse,
    *,
    requested: Kind | None,
    progress: Progress,
    resumed: Resumed | None,
) -> Ended:
    """Snapshot, plan, transfer; and what remains to be cleaned up after a commit, in words.

    Once the point is committed nothing takes it back: a snapshot that could not be removed is a warning then, and the
    next sync removes it.

    Raises:
        ParkedSyncError: a stop asked for it; snapshot and note stand.
        KeysapartError: whatever stood in the way.
    """
    held = held_point(vm, described)
    ended: Ended | None = None
    try:
        with (
            agent.reader.held(vm.moref),
            in_flight.noted(agent.state_dir, vm.instance_uuid) as note,
            _snapshot(agent, vm, resumed, progress) as taken,
            watched(Watch(agent.vsphere, vm, taken, agent.limits), agent.clock, agent.stop),
            settled(agent, vm, note),
        ):
            if resumed is not None:
                note.write(replace(resumed.record, parked=None))
            decided, tasks = _tasks(agent, vm, taken, held, requested=requested, resumed=resumed)
            span = None if held is None else (taken.created - held.taken).total_seconds()
            expected = expect(
                decided,
                measured.load(agent.state_dir, vm.instance_uuid),
                since_seconds=span,
                listed_bytes=sum(task.listed_bytes for task in tasks),
            )
            for disk in decided.disks:
                progress.say(f"{vm.name}: disk {disk.key} {disk.kind.value}: {disk.cause}")
            progress.say(f"{vm.name}: {expected.sentence()}")
            agent.stop.check()
            transfer = Transfer(
                agent.target,
                agent.reader,
                taken,
                described,
                stop=agent.stop,
                progress=progress,
                clock=agent.clock,
                parallel_disks=agent.parallel_disks,
                patience_seconds=agent.unreachable_seconds,
                alive=lambda: in_flight.touch(agent.state_dir, vm.instance_uuid),
            )
            if resumed is None:
                request = begin_request(vm, taken, decided, described.newest.number)
                done = transfer.run(
                    request, tasks, lambda sync, point: note.write(InFlight(sync, point, taken, decided))
                )
            else:
                record = resumed.record
                done = transfer.resume(record.sync, record.point, vm.instance_uuid, tasks, resumed.state.disks)
            ended = Ended(done, taken, decided, expected, span, [])
            _remember(agent, vm, done)
    except KeysapartError as error:
        if ended is None:
            raise
        return replace(ended, remains=[str(error)])
    return ended


def _snapshot(
    agent: Agent, vm: VmInfo, resumed: Resumed | None, progress: Progress
) -> AbstractContextManager[Snapshot]:
    if resumed is not None:
        return standing(agent.vsphere, vm, resumed.record.snapshot)
    progress.say(f"{vm.name}: taking a snapshot")
    return snapshot(
        agent.vsphere, vm, agent.agent_id, quiesce=agent.quiesce, fallback=agent.quiesce_fallback, clock=agent.clock
    )


def _remember(agent: Agent, vm: VmInfo, done: Transferred) -> None:
    """The bookmark is a guard: failing to write it takes nothing back."""
    try:
        bookmark.save(agent.state_dir, vm.instance_uuid, Bookmark(done.point, done.record_hash))
    except OSError as error:
        _log.warning("the bookmark was not written", vm=vm.name, cause=error.strerror)


def _tasks(
    agent: Agent,
    vm: VmInfo,
    taken: Snapshot,
    held: HeldPoint | None,
    *,
    requested: Kind | None,
    resumed: Resumed | None,
) -> tuple[Plan, list[DiskTask]]:
    """The plan over the snapshot, with the extents that each disk needs read; a sync that goes on keeps its plan.

    A change list that turns out not to be trustworthy makes its disk a compare, here and not as a failure.
    """
    if resumed is not None:
        decided = resumed.record.plan
    else:
        decided = plan(vm, taken, held, requested=requested, past=past_of(agent, vm, held))
    tasks = []
    for disk, choice in zip(taken.disks, decided.disks, strict=True):
        extents: tuple[Extent, ...] = (Extent(0, disk.capacity_bytes),)
        final = choice
        if choice.kind is Kind.DELTA:
            try:
                extents = changed_extents(agent.vsphere, vm.moref, taken, disk, choice.since or "")
            except ChangeTrackingError as error:
                final = DiskPlan(disk.key, Kind.COMPARE, "change-list", error.message, None, disk.capacity_bytes)
        tasks.append(DiskTask(disk, final, extents))
    return _replanned(decided, tuple(task.plan for task in tasks)), tasks


def past_of(agent: Agent, vm: VmInfo, held: HeldPoint | None) -> Past:
    """What happened to the VM since ``held``."""
    return NOTHING if held is None else agent.vsphere.past_since(vm.moref, held.taken)


def _replanned(decided: Plan, disks: tuple[DiskPlan, ...]) -> Plan:
    compared = any(disk.kind is Kind.COMPARE for disk in disks)
    return replace(decided, kind=Kind.COMPARE if compared else decided.kind, disks=disks)

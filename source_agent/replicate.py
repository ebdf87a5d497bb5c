"""One sync of one VM, from inventory to a committed point.

The order is the promise: what can refuse is asked before a snapshot exists; the snapshot is gone whatever happens
after it; the point exists only when the target says so.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from common import log
from common.clock import Clock
from common.errors import BusyError, ChangeTrackingError, KeysapartError
from common.extent import Extent
from common.ids import AgentId
from common.wire.v1 import replication_pb2 as wire
from source_agent import bookmark, in_flight, measured, preflight
from source_agent.bookmark import Bookmark
from source_agent.disk_read.port import BlockReader
from source_agent.disk_sync import DiskTask
from source_agent.expect import Expectation, expect
from source_agent.in_flight import InFlight
from source_agent.leftovers import clear_unfinished
from source_agent.lock import vm_lock
from source_agent.measured import Measured
from source_agent.plan import DiskPlan, Kind, Plan, plan
from source_agent.progress import Progress
from source_agent.report import SyncReport
from source_agent.resume import Resumed, Resumer, pending
from source_agent.snapshot_limits import Limits, Watch, watched
from source_agent.stop import Stop
from source_agent.stream.channel import Target
from source_agent.transfer import Transfer, Transferred
from source_agent.trust import HeldPoint
from source_agent.vsphere.changed_extents import changed_extents
from source_agent.vsphere.port import Snapshot, VmInfo, VSphere
from source_agent.vsphere.snapshots import ensure_tracking, remove_leftovers, snapshot, standing, untracked
from source_agent.wire_types import begin_request, held_point

_log = log.get("sync")


@dataclass(frozen=True)
class Agent:
    """What a sync needs of the world; all of it the caller's, to be closed by him."""

    agent_id: AgentId
    vsphere: VSphere
    reader: BlockReader
    target: Target
    clock: Clock
    state_dir: Path
    agent_vm: str
    """The agent's own VM, for preflight's rules on hot-add."""
    quiesce: bool
    parallel_disks: int
    transport: str = "hotadd"
    """hotadd, vddk-nbdssl or vddk-hotadd: what preflight's rules depend on."""
    quiesce_fallback: bool = False
    """A guest that does not quiesce is replicated all the same, crash-consistent."""
    limits: Limits = field(default_factory=Limits)
    """Of the snapshot."""
    stop: Stop = field(default_factory=Stop)
    """Ends the sync that is under way."""
    unreachable_seconds: float = 1800.0
    """How long the target may be out of reach before a sync lets go of its snapshot; 0 waits for nothing."""


def findings(agent: Agent, vm: VmInfo) -> tuple[preflight.Finding, ...]:
    """Preflight of one VM as this agent would sync it."""
    agent_vm = agent.vsphere.vm(agent.agent_vm)
    setting = preflight.gather(
        agent.vsphere, vm, agent_vm, agent.agent_id, quiesce=agent.quiesce, transport=agent.transport
    )
    return preflight.check(vm, setting)


def sync_vm(
    agent: Agent, name: str, *, requested: Kind | None, progress: Progress, accept_rollback: bool = False
) -> SyncReport:
    """Replicate the VM called ``name`` once.

    Args:
        agent: this agent.
        name: the VM's name, moref or instance UUID.
        requested: FULL starts a new chain, COMPARE reads everything; None leaves it to the plan.
        progress: told of every step.
        accept_rollback: go on although the target shows less than it committed before.

    Raises:
        KeysapartError: whatever stood in the way; nothing was committed then, unless the message says so.
    """
    began = agent.clock.monotonic()
    # Disks first: while a snapshot's base is attached elsewhere its removal cannot consolidate, and the VM would run on
    # another file from then on, which ends trust in change tracking.
    released = agent.reader.release_leftovers()
    vm = agent.vsphere.vm(name)
    clear_unfinished(
        agent.vsphere,
        agent.agent_id,
        agent.state_dir,
        lambda other: (
            other == vm.instance_uuid or pending(agent.state_dir, other, agent.clock.now(), agent.unreachable_seconds)
        ),
    )
    with vm_lock(agent.state_dir, vm.instance_uuid, vm.name):
        resumer = Resumer(
            agent.agent_id, agent.target, agent.clock, agent.state_dir, agent.unreachable_seconds, progress
        )
        resumed = resumer.find(vm, requested)
        vm = _cleared(agent, vm, released, resumed)
        warned = findings(agent, vm)
        preflight.require(vm, warned)
        described = _described(agent, vm)
        if not accept_rollback:
            bookmark.check(bookmark.load(agent.state_dir, vm.instance_uuid), _newest(described), vm.name)
        vm = ensure_tracking(agent.vsphere, vm)
        agent.stop.check()
        ended = _cycle(agent, vm, described, requested=requested, progress=progress, resumed=resumed)
    seconds = agent.clock.monotonic() - began
    _measure(agent, vm, ended, seconds)
    warned = tuple(found for found in warned if found.severity is preflight.Severity.WARN)
    lines = [f"{found.sentence}: {found.remedy}" for found in warned]
    lines += [f"disk {key} is not tracked: its next sync will be a compare" for key in untracked(ended.taken)]
    if agent.quiesce and not ended.taken.quiesced:
        lines.append(f"the guest of {vm.name} was not quiesced: the point is crash-consistent")
    lines += [f"{text}; its deltas will be larger than under VM encryption" for text in ended.suspicions]
    lines += ended.remains
    return SyncReport(
        vm=vm.name,
        replica=vm.instance_uuid,
        point=ended.done.point,
        kind=ended.decided.kind.value,
        bytes_read=ended.bytes_read,
        bytes_sent=ended.bytes_sent,
        stored_bytes=ended.done.stored_bytes,
        seconds=seconds,
        consistency=ended.taken.consistency,
        expected=ended.expected,
        disks=ended.done.disks,
        warnings=tuple(lines),
        resumed=resumed is not None,
    )


@dataclass(frozen=True)
class _Ended:
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
        return sum(disk.bytes_read for disk in self.done.disks)

    @property
    def suspicions(self) -> list[str]:
        return [f"disk {disk.key}: {disk.suspicion}" for disk in self.done.disks if disk.suspicion]

    @property
    def bytes_sent(self) -> int:
        return sum(disk.bytes_sent for disk in self.done.disks)


def _measure(agent: Agent, vm: VmInfo, ended: _Ended, seconds: float) -> None:
    """Keep the figures for the next forecast; failing to takes nothing back."""
    one = Measured(ended.bytes_read, ended.bytes_sent, seconds, ended.span_seconds, ended.suspicions)
    known = measured.load(agent.state_dir, vm.instance_uuid)
    try:
        measured.save(agent.state_dir, vm.instance_uuid, {**known, ended.decided.kind: one})
    except OSError as error:
        _log.warning("the sync's figures were not written", vm=vm.name, cause=error.strerror)


def _described(agent: Agent, vm: VmInfo) -> wire.DescribeReplicaResponse:
    """What the target holds; a refusal because of another agent names the VM, of which the target knows the id only."""
    try:
        return agent.target.describe(vm.instance_uuid)
    except BusyError as error:
        raise BusyError(
            f"VM {vm.name} is being synced by another agent ({error.message})",
            subject=f"vm {vm.name}",
            next_step=error.next_step,
        ) from error


def _cycle(
    agent: Agent,
    vm: VmInfo,
    described: wire.DescribeReplicaResponse,
    *,
    requested: Kind | None,
    progress: Progress,
    resumed: Resumed | None,
) -> _Ended:
    """Snapshot, plan, transfer; and what remains to be cleaned up after a commit, in words.

    Once the point is committed nothing takes it back: a snapshot that could not be removed is a warning then, and the
    next sync removes it.
    """
    held = held_point(vm, described)
    ended: _Ended | None = None
    try:
        with (
            agent.reader.held(vm.moref),
            in_flight.noted(agent.state_dir, vm.instance_uuid) as note,
            _snapshot(agent, vm, resumed, progress) as taken,
            watched(Watch(agent.vsphere, vm, taken, agent.limits), agent.clock, agent.stop),
        ):
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
                done = transfer.run(request, tasks, lambda sync, point: note(InFlight(sync, point, taken, decided)))
            else:
                record = resumed.record
                done = transfer.resume(record.sync, record.point, vm.instance_uuid, tasks, resumed.state.disks)
            ended = _Ended(done, taken, decided, expected, span, [])
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


def _newest(described: wire.DescribeReplicaResponse) -> Bookmark | None:
    if not described.HasField("newest"):
        return None
    return Bookmark(described.newest.number, described.newest.record_hash)


def _cleared(agent: Agent, vm: VmInfo, released: int, resumed: Resumed | None) -> VmInfo:
    """Remove the snapshots that an earlier process of this agent left; ``released`` of its disks were detached."""
    keep = resumed.record.snapshot.moref if resumed else None
    removed = remove_leftovers(agent.vsphere, vm, agent.agent_id, keep)
    if not released and not removed:
        return vm
    _log.info("leftovers of an earlier sync removed", vm=vm.name, snapshots=removed, disks=released)
    return agent.vsphere.vm(vm.moref)


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
        decided = plan(vm, taken, held, requested=requested, reverted=history_of(agent, vm, held))
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


def history_of(agent: Agent, vm: VmInfo, held: HeldPoint | None) -> bool:
    """Whether the VM was brought back to a snapshot since ``held``."""
    return held is not None and agent.vsphere.reverted_since(vm.moref, held.taken)


def _replanned(decided: Plan, disks: tuple[DiskPlan, ...]) -> Plan:
    compared = any(disk.kind is Kind.COMPARE for disk in disks)
    return replace(decided, kind=Kind.COMPARE if compared else decided.kind, disks=disks)

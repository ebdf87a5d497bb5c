"""One sync of one VM, from inventory to a committed point.

The order is the promise: what can refuse is asked before a snapshot exists. ``cycle.py`` does what comes after it.
"""

from common import log
from common.errors import BusyError
from common.wire.v1 import replication_pb2 as wire
from source_agent import bookmark, measured, preflight
from source_agent.bookmark import Bookmark
from source_agent.cycle import Ended, cycle
from source_agent.leftovers import clear_unfinished
from source_agent.lock import vm_lock
from source_agent.measured import Measured
from source_agent.needs import Agent
from source_agent.plan import Kind
from source_agent.progress import Progress
from source_agent.report import SyncReport
from source_agent.resume import Resumed, Resumer, pending
from source_agent.vsphere.port import VmInfo
from source_agent.vsphere.snapshots import ensure_tracking, remove_leftovers, untracked

_log = log.get("sync")


def findings(agent: Agent, vm: VmInfo) -> tuple[preflight.Finding, ...]:
    """Preflight of one VM as this agent would sync it."""
    agent_vm = agent.vsphere.vm(agent.agent_vm)
    setting = preflight.gather(
        agent.vsphere,
        vm,
        agent_vm,
        agent.agent_id,
        quiesce=agent.quiesce,
        probe=preflight.Probe(agent.clock),
        transport=agent.transport,
        data_port=agent.data_port,
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
    began, now = agent.clock.monotonic(), agent.clock.now()
    # Disks first: while a snapshot's base is attached elsewhere its removal cannot consolidate, and the VM would run on
    # another file from then on, which ends trust in change tracking.
    released = agent.reader.release_leftovers()
    vm = agent.vsphere.vm(name)
    clear_unfinished(
        agent.vsphere,
        agent.agent_id,
        agent.state_dir,
        lambda other: other == vm.instance_uuid or pending(agent, other),
    )
    with vm_lock(agent.state_dir, vm.instance_uuid, vm.name):
        resumed = Resumer(agent, progress).find(vm, requested)
        vm = _cleared(agent, vm, released, resumed)
        warned = findings(agent, vm)
        preflight.require(vm, warned)
        described = _described(agent, vm)
        if not accept_rollback:
            bookmark.check(bookmark.load(agent.state_dir, vm.instance_uuid), _newest(described), vm.name)
        vm = ensure_tracking(agent.vsphere, vm)
        agent.stop.check()
        ended = cycle(agent, vm, described, requested=requested, progress=progress, resumed=resumed)
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
        snapshot_age=max(0.0, (now - ended.taken.created).total_seconds()) if resumed else 0.0,
    )


def _measure(agent: Agent, vm: VmInfo, ended: Ended, seconds: float) -> None:
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

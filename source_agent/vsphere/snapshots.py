"""Snapshots of ours: made for one sync, removed on every path but a parked one, found again after a crash.

A snapshot of ours is recognised by its name *and* by the marker in its description, both with the agent's id: a
person may rename a snapshot, and may write a name that looks like ours. The caller holds the VM's lock file, so that
whatever ``leftovers`` finds belongs to no living sync.
"""

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace

from common import log
from common.clock import Clock
from common.errors import (
    InterruptedSyncError,
    KeysapartError,
    ParkedSyncError,
    PreconditionError,
    QuiesceError,
    SourceError,
)
from common.ids import AgentId, DiskKey
from source_agent.vsphere.port import Snapshot, SnapshotInfo, VmInfo, VSphere

_log = log.get("snapshots")

SETTLE_SECONDS = 10.0
"""How long an interrupted creation is waited for, so that what it leaves can be removed."""

_STEP_SECONDS = 0.5


def marker(agent: AgentId) -> str:
    """First words of the description of every snapshot of this agent."""
    return f"keysapart-agent={agent}"


def new_name(agent: AgentId) -> str:
    """A name that no other snapshot bears."""
    return f"keysapart-{agent}-{uuid.uuid4()}"


def leftovers(vm: VmInfo, agent: AgentId) -> tuple[SnapshotInfo, ...]:
    """The agent's own snapshots of the VM, children first, so that they can be removed in this order."""
    return tuple(
        found
        for found in reversed(vm.snapshots)
        if found.name.startswith(f"keysapart-{agent}-") and found.description.split(";")[0] == marker(agent)
    )


def remove_leftovers(vsphere: VSphere, vm: VmInfo, agent: AgentId, keep: str | None = None) -> tuple[str, ...]:
    """Remove what a crashed sync left on the VM, but for the snapshot with moref ``keep``; returns the names."""
    removed = []
    for found in leftovers(vm, agent):
        if found.moref == keep:
            continue
        vsphere.remove_snapshot(vm.moref, found.moref)
        removed.append(found.name)
    return tuple(removed)


def ensure_tracking(vsphere: VSphere, vm: VmInfo) -> VmInfo:
    """Switch change tracking on where it is off; returns the VM as it is afterwards.

    Raises:
        PreconditionError: tracking is off and the VM has snapshots, or tracking is not supported, or the vCenter
            accepted the switch without effect.
    """
    if vm.tracking_enabled:
        return vm
    if not vm.tracking_supported:
        raise PreconditionError(
            f"VM {vm.name} does not support changed-block tracking",
            subject=f"vm {vm.name}",
            next_step="upgrade its virtual hardware to version 7 or newer",
        )
    if vm.snapshots:
        # Since 6.5, tracking that is enabled over a snapshot may answer wrongly without any error.
        raise PreconditionError(
            f"change tracking of VM {vm.name} is off and cannot be switched on while it has snapshots "
            f"({', '.join(found.name for found in vm.snapshots)})",
            subject=f"vm {vm.name}",
            next_step="delete the VM's snapshots, then run the sync again",
        )
    vsphere.enable_tracking(vm.moref)
    # The vCenter may need the next stun to show it; what counts is the change ids of the snapshot.
    return replace(vsphere.vm(vm.moref), tracking_enabled=True)


def untracked(snapshot: Snapshot) -> tuple[DiskKey, ...]:
    """Disks without a change id: their next sync will be a compare, which deserves a warning."""
    return tuple(disk.key for disk in snapshot.disks if not disk.change_id)


@contextlib.contextmanager
def snapshot(
    vsphere: VSphere, vm: VmInfo, agent: AgentId, *, quiesce: bool, clock: Clock, fallback: bool = False
) -> Iterator[Snapshot]:
    """A snapshot of the VM while the block runs; removed however it ends, signals included, unless the sync is parked.

    A guest that does not quiesce is asked once more; then the snapshot is taken without, if ``fallback`` allows it, and
    says so. When removal fails, the block's own error goes on with a note that says what remains; without one, the
    removal's error is raised, its message naming the snapshot. ``remove_leftovers`` at the next start removes it then.
    Disks that still need consolidation afterwards are told the same way.

    Raises:
        KeysapartError: as VSphere.create_snapshot and VSphere.remove_snapshot do.
    """
    tries = [quiesce, quiesce, False] if quiesce and fallback else [quiesce] * (1 + quiesce)
    with standing(vsphere, vm, _created(vsphere, vm, agent, tries, clock)) as made:
        yield made


@contextlib.contextmanager
def standing(vsphere: VSphere, vm: VmInfo, made: Snapshot) -> Iterator[Snapshot]:
    """The same for a snapshot that stands already, of a sync that goes on."""
    try:
        yield made
    except ParkedSyncError as error:
        error.add_note(f"snapshot {made.name} of VM {vm.name} stands for it")
        raise
    except BaseException as error:
        with _noted(vm, made.name, error):
            _removed(vsphere, vm, made)
            if isinstance(error, InterruptedSyncError):
                error.add_note(f"snapshot {made.name} of VM {vm.name} was removed")
        raise
    _removed(vsphere, vm, made)


def _created(vsphere: VSphere, vm: VmInfo, agent: AgentId, tries: Sequence[bool], clock: Clock) -> Snapshot:
    """The snapshot of the first of ``tries`` that the guest goes along with; each says whether to quiesce."""
    name = new_name(agent)
    description = f"{marker(agent)}; taken for a replication sync, removed when it ends"
    for quiesce, last in zip(tries, [False] * (len(tries) - 1) + [True], strict=True):
        try:
            return vsphere.create_snapshot(vm.moref, name, description, quiesce=quiesce)
        except BaseException as error:
            # A KeysapartError is the vCenter's answer, or came after it was asked for the name: nothing to wait for.
            patience = 0.0 if isinstance(error, KeysapartError) else SETTLE_SECONDS
            with _noted(vm, name, error):
                _remove_by_name(vsphere, vm, name, clock, patience)
            if last or not isinstance(error, QuiesceError) or hasattr(error, "__notes__"):
                raise
            _log.warning("the guest did not quiesce", vm=vm.name, cause=error.message)
    raise AssertionError("there is always a last try")


def _removed(vsphere: VSphere, vm: VmInfo, made: Snapshot) -> None:
    try:
        whole = vsphere.remove_snapshot(vm.moref, made.moref)
    except KeysapartError as error:
        raise type(error)(
            _remains(vm, made.name, error),
            subject=f"vm {vm.name}",
            next_step="run the agent again, which removes it, or delete it in the vCenter",
        ) from error
    if not whole:
        raise SourceError(
            f"snapshot {made.name} of VM {vm.name} is removed, but the disks need consolidation still",
            subject=f"vm {vm.name}",
            next_step="find who holds the VM's files, then consolidate its disks in the vCenter",
        )


def _remains(vm: VmInfo, name: str, error: KeysapartError) -> str:
    return f"snapshot {name} of VM {vm.name} may remain ({error.message})"


@contextlib.contextmanager
def _noted(vm: VmInfo, name: str, first: BaseException) -> Iterator[None]:
    """A failing clean-up becomes a note of the error that caused it."""
    try:
        yield
    except KeysapartError as error:
        first.add_note(error.message if name in error.message else _remains(vm, name, error))


def _remove_by_name(vsphere: VSphere, vm: VmInfo, name: str, clock: Clock, patience: float) -> None:
    """After a creation without an answer: remove the snapshot, waiting ``patience`` seconds for it to show."""
    deadline = clock.monotonic() + patience
    while True:
        for found in vsphere.vm(vm.moref).snapshots:
            if found.name == name:
                vsphere.remove_snapshot(vm.moref, found.moref)
                return
        if clock.monotonic() >= deadline:
            return
        clock.sleep(_STEP_SECONDS)

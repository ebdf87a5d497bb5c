"""What crashed syncs of this agent left on other VMs: found at the next start, whichever VM that start is for."""

from collections.abc import Callable
from pathlib import Path

from common import log
from common.errors import BusyError, KeysapartError, NotFoundError
from common.ids import AgentId, ReplicaId
from source_agent import in_flight
from source_agent.lock import unfinished, vm_lock
from source_agent.vsphere.port import VSphere
from source_agent.vsphere.snapshots import remove_leftovers

_log = log.get("leftovers")


def clear_unfinished(vsphere: VSphere, agent: AgentId, state_dir: Path, pending: Callable[[ReplicaId], bool]) -> None:
    """Remove our snapshots from every VM whose last sync from here did not end well, and that no process holds.

    A VM that cannot be cleared now is logged and stays on the list: it must not keep another one from its sync. A
    VM whose sync may go on, of which ``pending`` knows, waits for its own next sync. A sync that begins in the very
    moment in which its VM is looked at is refused as busy, and may be tried again at once.
    """
    for vm in unfinished(state_dir):
        if pending(vm):
            continue
        try:
            removed = _held_and_cleared(vsphere, agent, state_dir, vm, pending)
        except BusyError:
            continue
        except (KeysapartError, OSError) as error:
            _log.warning("what an unfinished sync left could not be removed", vm=vm, cause=str(error))
        else:
            if removed:
                _log.info("leftovers of an unfinished sync removed", vm=vm, snapshots=removed)


def _held_and_cleared(
    vsphere: VSphere, agent: AgentId, state_dir: Path, vm: ReplicaId, pending: Callable[[ReplicaId], bool]
) -> tuple[str, ...]:
    """What was removed. Raises BusyError, and the VM stays on the list: a process holds it, or its sync may go on."""
    with vm_lock(state_dir, vm, vm) as left:
        if not left:  # it ended well meanwhile, and its next sync is not to find the VM taken
            return ()
        if pending(vm):  # it was parked since it was asked for
            raise BusyError(f"the sync of VM {vm} may go on", subject=f"vm {vm}", next_step="sync that VM")
        removed = _clear(vsphere, agent, vm)
        in_flight.forget(state_dir, vm)
        return removed


def _clear(vsphere: VSphere, agent: AgentId, vm: ReplicaId) -> tuple[str, ...]:
    try:
        return remove_leftovers(vsphere, vsphere.vm(vm), agent)
    except NotFoundError:  # the VM is gone, and its snapshots with it
        return ()

"""What becomes of a sync that the target has open and that does not get to its commit: parked, or aborted.

Parked, nothing is undone: the snapshot and the note stand, and the target keeps what it got. The next process goes on.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from common.duration import spoken
from common.errors import KeysapartError, ParkedSyncError
from source_agent.in_flight import InFlight, Note
from source_agent.needs import Agent
from source_agent.vsphere.port import VmInfo


@contextmanager
def settled(agent: Agent, vm: VmInfo, note: Note) -> Iterator[None]:
    """Around what sends and commits; its streams are over, and its disks closed, when the block ends.

    A sync is parked when that is asked for at this moment, and only if the next process will find its note.

    Raises:
        ParkedSyncError: in place of what ended the block.
    """
    try:
        yield
    except BaseException as error:
        record = note.record
        if record is None:
            raise
        if agent.stop.parks and note.written:
            note.park(agent.clock.now())
            raise _parked(agent, vm, record) from error
        agent.target.abort(record.sync, error.message if isinstance(error, KeysapartError) else type(error).__name__)
        raise


def _parked(agent: Agent, vm: VmInfo, record: InFlight) -> ParkedSyncError:
    return ParkedSyncError(
        f"{agent.stop.cause}, and the sync of VM {vm.name} for point {record.point} is parked",
        subject=f"vm {vm.name}",
        next_step=f"sync it again within {spoken(agent.park_seconds)}, which goes on from here; later it begins anew",
    )

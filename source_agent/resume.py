"""Whether a sync that another process left, killed or parked, goes on: its snapshot stands, and the target holds it."""

from dataclasses import dataclass
from typing import Final

from common.duration import spoken
from common.errors import KeysapartError, NotFoundError
from common.ids import ReplicaId
from common.wire.v1 import replication_pb2 as wire
from source_agent import bookmark, in_flight
from source_agent.bookmark import Bookmark
from source_agent.in_flight import InFlight
from source_agent.needs import Agent
from source_agent.plan import Kind
from source_agent.progress import Progress
from source_agent.snapshot_limits import exceeded, size_now
from source_agent.stream.link import BREAKS
from source_agent.vsphere.port import VmInfo
from source_agent.vsphere.snapshots import leftovers

_POLL_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Resumed:
    """A sync that goes on, and how far it is."""

    record: InFlight
    state: wire.ResumeSyncResponse


@dataclass(frozen=True, slots=True)
class Resumer:
    """Asks the vCenter and the target."""

    agent: Agent
    progress: Progress

    def find(self, vm: VmInfo, requested: Kind | None) -> Resumed | None:
        """The interrupted sync of the VM, if it goes on; else its record is gone, and its snapshot is a leftover.

        The caller holds the VM's lock.

        Raises:
            KeysapartError: the target is out of reach, and not for longer than the patience yet.
        """
        state_dir = self.agent.state_dir
        record = in_flight.load(state_dir, vm.instance_uuid)
        if record is None:
            return None
        try:
            found = self._asked(vm, record, requested)
        except NotFoundError:
            found = "the target holds it no longer"
        except BREAKS as error:
            if pending(self.agent, vm.instance_uuid):
                raise
            found = f"the target stays away ({error.message})"
        except KeysapartError as error:
            found = error.message
        if isinstance(found, Resumed):
            word = "interrupted" if record.parked is None else "parked"
            self.progress.say(f"{vm.name}: going on with the sync that was {word}, for point {record.point}")
            return found
        in_flight.forget(state_dir, vm.instance_uuid)
        self.progress.say(f"{vm.name}: the sync that was interrupted does not go on, {found}; a new one begins")
        return None

    def _asked(self, vm: VmInfo, record: InFlight, requested: Kind | None) -> Resumed | str:
        """The sync, or why it does not go on."""
        agent = self.agent
        if requested is not None:
            return f"a {requested.value} sync was asked for"
        snapshot = record.snapshot
        if (snapshot.moref, snapshot.name) not in {(one.moref, one.name) for one in leftovers(vm, agent.agent_id)}:
            return "its snapshot is gone"
        if (why := outlived(agent, vm, record)) is not None:
            return why
        state = agent.target.resume(record.sync, vm.instance_uuid)
        while state.committing:
            agent.clock.sleep(_POLL_SECONDS)
            state = agent.target.resume(record.sync, vm.instance_uuid)
        if not state.HasField("committed"):
            return Resumed(record, state)
        done = Bookmark(state.committed.point, state.committed.record_hash)
        bookmark.save(agent.state_dir, vm.instance_uuid, done)
        return f"its point {done.point} is committed"


def outlived(agent: Agent, vm: VmInfo, record: InFlight) -> str | None:
    """Why the sync's snapshot, which stands, is let go; None when it is not.

    Nobody watched it meanwhile, so that the limits of a snapshot are asked here first.
    """
    now = agent.clock.now()
    if record.parked is None and not agent.unreachable_seconds:
        return "unreachable_minutes is 0"
    if record.parked is not None and (now - record.parked).total_seconds() >= agent.park_seconds:
        return f"it was parked for longer than park_hours allows ({spoken(agent.park_seconds)})"
    age = (now - record.snapshot.created).total_seconds()
    return exceeded(agent.limits, vm.name, age, size_now(agent.vsphere, vm, agent.limits))


def pending(agent: Agent, vm: ReplicaId) -> bool:
    """Whether a VM's interrupted sync may go on, and its process has not been gone for too long."""
    record = in_flight.load(agent.state_dir, vm)
    now = agent.clock.now()
    if record is None:
        return False
    if record.parked is not None:
        return (now - record.parked).total_seconds() < agent.park_seconds
    return in_flight.age_seconds(agent.state_dir, vm, now) < agent.unreachable_seconds

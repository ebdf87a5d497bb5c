"""Whether a sync that a killed process left goes on: its snapshot stands, and the target still holds what it got."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from common.clock import Clock
from common.errors import KeysapartError, NotFoundError
from common.ids import AgentId, ReplicaId
from common.wire.v1 import replication_pb2 as wire
from source_agent import bookmark, in_flight
from source_agent.bookmark import Bookmark
from source_agent.in_flight import InFlight
from source_agent.plan import Kind
from source_agent.progress import Progress
from source_agent.stream.channel import Target
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
    """Asks; all of it the caller's."""

    agent: AgentId
    target: Target
    clock: Clock
    state_dir: Path
    patience_seconds: float
    """How long the target may stay away before a snapshot is let go; 0: nothing is ever resumed."""
    progress: Progress

    def find(self, vm: VmInfo, requested: Kind | None) -> Resumed | None:
        """The interrupted sync of the VM, if it goes on; else its record is gone, and its snapshot is a leftover.

        The caller holds the VM's lock.

        Raises:
            KeysapartError: the target is out of reach, and not for longer than the patience yet.
        """
        record = in_flight.load(self.state_dir, vm.instance_uuid)
        if record is None:
            return None
        try:
            found = self._asked(vm, record, requested)
        except NotFoundError:
            found = "the target holds it no longer"
        except BREAKS as error:
            if in_flight.age_seconds(self.state_dir, vm.instance_uuid, self.clock.now()) < self.patience_seconds:
                raise
            found = f"the target stays away ({error.message})"
        except KeysapartError as error:
            found = error.message
        if isinstance(found, Resumed):
            self.progress.say(f"{vm.name}: going on with the sync that was interrupted, for point {record.point}")
            return found
        in_flight.forget(self.state_dir, vm.instance_uuid)
        self.progress.say(f"{vm.name}: the sync that was interrupted does not go on, {found}; a new one begins")
        return None

    def _asked(self, vm: VmInfo, record: InFlight, requested: Kind | None) -> Resumed | str:
        """The sync, or why it does not go on."""
        if requested is not None:
            return f"a {requested.value} sync was asked for"
        if not self.patience_seconds:
            return "unreachable_minutes is 0"
        snapshot = record.snapshot
        if (snapshot.moref, snapshot.name) not in {(one.moref, one.name) for one in leftovers(vm, self.agent)}:
            return "its snapshot is gone"
        state = self.target.resume(record.sync, vm.instance_uuid)
        while state.committing:
            self.clock.sleep(_POLL_SECONDS)
            state = self.target.resume(record.sync, vm.instance_uuid)
        if not state.HasField("committed"):
            return Resumed(record, state)
        done = Bookmark(state.committed.point, state.committed.record_hash)
        bookmark.save(self.state_dir, vm.instance_uuid, done)
        return f"its point {done.point} is committed"


def pending(state_dir: Path, vm: ReplicaId, now: datetime, patience_seconds: float) -> bool:
    """Whether a VM's interrupted sync may go on, and its process has not been gone for too long."""
    known = in_flight.load(state_dir, vm) is not None
    return known and in_flight.age_seconds(state_dir, vm, now) < patience_seconds

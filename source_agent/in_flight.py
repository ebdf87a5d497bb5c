"""The sync under way of each VM, written down so that a new process can go on with it: an agent may be killed.

Written when the target has opened the sync, touched while it runs, gone when it ends either way, unless it is parked.
Its age tells how long ago the process died. Nothing in it is secret; what it says is checked against the vCenter and
the target.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from common import log
from common.errors import InvalidInputError, ParkedSyncError
from common.ids import PointNumber, ReplicaId, SyncId, parse_replica
from common.private_file import write_file
from source_agent.plan import Plan
from source_agent.vsphere.port import Snapshot

_log = log.get("in-flight")


@dataclass(frozen=True, slots=True)
class InFlight:
    """A sync that the target has open."""

    sync: SyncId
    point: PointNumber
    """Number that its point will have."""
    snapshot: Snapshot
    plan: Plan
    parked: datetime | None = None
    """When its process parked it; None while it runs, and when its process was killed."""


_FORM = TypeAdapter(InFlight)


def load(state_dir: Path, vm: ReplicaId) -> InFlight | None:
    """What a process that died was at; None when there is nothing, or nothing that can be read."""
    try:
        return _FORM.validate_json(_path(state_dir, vm).read_bytes())
    except (OSError, ValidationError):
        return None


def begun(state_dir: Path) -> dict[ReplicaId, InFlight]:
    """All syncs that are under way, or that a process left open, by VM."""
    found = {}
    for path in state_dir.glob("vm-*.sync"):
        try:
            vm = parse_replica(path.stem.removeprefix("vm-"))
        except InvalidInputError:
            continue
        if (record := load(state_dir, vm)) is not None:
            found[vm] = record
    return found


class Note:
    """What writes down the sync under way of one VM; failing to write ends no sync, but a later process begins anew."""

    def __init__(self, state_dir: Path, vm: ReplicaId) -> None:
        self.record: InFlight | None = None
        """The sync, once the target has it open."""
        self._state_dir = state_dir
        self._vm = vm

    @property
    def written(self) -> bool:
        """Whether a later process will find it."""
        found = load(self._state_dir, self._vm)
        return self.record is not None and found is not None and found.sync == self.record.sync

    def write(self, record: InFlight) -> None:
        """The target has this sync open."""
        self.record = record
        try:
            save(self._state_dir, self._vm, record)
        except OSError as error:
            _log.warning("the sync under way was not written down", replica=self._vm, cause=error.strerror)

    def park(self, now: datetime) -> None:
        """The sync ends here, and another process is to go on with it."""
        if self.record is not None:
            self.write(replace(self.record, parked=now))


@contextmanager
def noted(state_dir: Path, vm: ReplicaId) -> Iterator[Note]:
    """Yields the VM's note. However the block ends, the sync is over, and the note gone, unless the sync was parked."""
    keep = False
    try:
        yield Note(state_dir, vm)
    except ParkedSyncError:
        keep = True
        raise
    finally:
        if not keep:
            try:
                forget(state_dir, vm)
            except OSError as error:
                _log.warning("the note of a sync was not removed", replica=vm, cause=error.strerror)


def save(state_dir: Path, vm: ReplicaId, sync: InFlight) -> None:
    """Write it down, whole or not at all. Raises OSError."""
    write_file(_path(state_dir, vm), _FORM.dump_json(sync) + b"\n", replace=True)


def touch(state_dir: Path, vm: ReplicaId) -> None:
    """The sync is alive."""
    try:
        os.utime(_path(state_dir, vm))
    except OSError:
        return


def forget(state_dir: Path, vm: ReplicaId) -> None:
    """The sync is over. Raises OSError."""
    _path(state_dir, vm).unlink(missing_ok=True)


def age_seconds(state_dir: Path, vm: ReplicaId, now: datetime) -> float:
    """Since the last sign of life; without a record, for ever."""
    try:
        return now.timestamp() - _path(state_dir, vm).stat().st_mtime
    except OSError:
        return float("inf")


def _path(state_dir: Path, vm: ReplicaId) -> Path:
    return state_dir / f"vm-{vm}.sync"

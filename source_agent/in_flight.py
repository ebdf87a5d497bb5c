"""The sync under way of each VM, written down so that a new process can go on with it: an agent may be killed.

Written when the target has opened the sync, touched while it runs, gone when it ends either way. Its age tells how long
ago the process died. Nothing in it is secret; what it says is checked against the vCenter and the target.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from common import log
from common.ids import PointNumber, ReplicaId, SyncId
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


_FORM = TypeAdapter(InFlight)


def load(state_dir: Path, vm: ReplicaId) -> InFlight | None:
    """What a process that died was at; None when there is nothing, or nothing that can be read."""
    try:
        return _FORM.validate_json(_path(state_dir, vm).read_bytes())
    except (OSError, ValidationError):
        return None


@contextmanager
def noted(state_dir: Path, vm: ReplicaId) -> Iterator[Callable[[InFlight], None]]:
    """Yields what writes a sync down; however the block ends, the sync is over, and only a killed process leaves it.

    Without the note a later process begins anew: failing to write it ends no sync.
    """

    def note(sync: InFlight) -> None:
        try:
            save(state_dir, vm, sync)
        except OSError as error:
            _log.warning("the sync under way was not written down", replica=vm, cause=error.strerror)

    try:
        yield note
    finally:
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

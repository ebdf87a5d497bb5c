"""What the target said at the last commit, kept here so that a target that was rolled back is noticed.

The target cannot prove by itself that it shows its newest state: whoever holds its store may have put an older copy
back. The agent remembers one number and one hash per VM; without them (a new machine) nothing is refused.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from common.errors import PreconditionError
from common.ids import ReplicaId
from common.private_file import write_file


@dataclass(frozen=True, slots=True)
class Bookmark:
    """A committed point: its number and the BLAKE3-256 of its record."""

    point: int
    record_hash: bytes


def load(state_dir: Path, vm: ReplicaId) -> Bookmark | None:
    """The bookmark of a VM; None where there is none, or none that can be read: it guards, it is not needed."""
    try:
        found = json.loads(_path(state_dir, vm).read_bytes())
        return Bookmark(int(found["point"]), bytes.fromhex(found["record_hash"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def save(state_dir: Path, vm: ReplicaId, bookmark: Bookmark) -> None:
    """Remember ``bookmark``, whole or not at all."""
    text = json.dumps({"point": bookmark.point, "record_hash": bookmark.record_hash.hex()})
    write_file(_path(state_dir, vm), f"{text}\n".encode(), replace=True)


def check(bookmark: Bookmark | None, newest: Bookmark | None, vm_name: str) -> None:
    """Return unless the target's newest point is older than, or not, the one it told us of. Pure.

    Raises:
        PreconditionError: it is; both are named.
    """
    if bookmark is None or (newest is not None and newest.point > bookmark.point) or newest == bookmark:
        return
    shown = "no point at all" if newest is None else f"point {newest.point} with record {newest.record_hash.hex()[:16]}"
    raise PreconditionError(
        f"the target shows {shown} of VM {vm_name}, but committed point {bookmark.point} with record"
        f" {bookmark.record_hash.hex()[:16]} before: its store was rolled back or exchanged",
        subject=f"vm {vm_name}",
        next_step="ask its operator why; to go on from what it shows, sync with --accept-rollback",
    )


def _path(state_dir: Path, vm: ReplicaId) -> Path:
    return state_dir / f"vm-{vm}.json"

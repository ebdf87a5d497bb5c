"""The last part of a merge: a list of renames that is decided at once, carried out, and may be repeated at any step.

``merge/`` holds new files and the list. Its rename to ``merging/`` is the decision; from then on every name in the list
is moved, whoever does it, and only when all of it is durable does the folder go.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from common.errors import NotFoundError
from target_appliance.recovery import names, small_file
from target_appliance.recovery.disk_place import Failpoint
from target_appliance.store.port import Store

MOVES_FILE: Final = "moves.json"
MERGE_BUILT: Final = "merge-built"
MERGE_DECIDED: Final = "merge-decided"
MERGE_MOVED: Final = "merge-moved"
MERGE_APPLIED: Final = "merge-applied"
MERGE_OVER: Final = "merge-over"
MERGE_TRASHED: Final = "merge-trashed"
MERGE_STEPS: Final = (MERGE_BUILT, MERGE_DECIDED, MERGE_MOVED, MERGE_APPLIED, MERGE_OVER, MERGE_TRASHED)
"""Every step of a merge at which the failpoint is called, in order; MERGE_MOVED once per name."""

_FOLDERS: Final = "folders"
_FILES: Final = "files"


def _no_failpoint(_step: str) -> None:
    """What a failpoint does outside of tests."""


@dataclass
class Moves:
    """What a merge moves; paths are relative to the replica's folder. Files first, then folders, into ``trash/``."""

    files: list[tuple[str, str]] = field(default_factory=list)
    """From where to where; what lies there is replaced."""
    gone: list[str] = field(default_factory=list)
    """Folders of points, by name, that nothing needs any more."""


def decide(store: Store, folder: str, moves: Moves, failpoint: Failpoint) -> None:
    """Make it so that ``moves`` will be done. What they move lies in ``merge/``, durable, or in points' folders.

    The replica is the caller's alone.
    """
    members = {_FILES: [list(move) for move in moves.files], _FOLDERS: moves.gone}
    small_file.write(store, f"{folder}/{names.MERGE}/{MOVES_FILE}", members)
    store.sync_folder(f"{folder}/{names.MERGE}")
    failpoint(MERGE_BUILT)
    store.rename(f"{folder}/{names.MERGE}", f"{folder}/{names.MERGING}")
    store.sync_folder(folder)
    failpoint(MERGE_DECIDED)


def finish(store: Store, folder: str, failpoint: Failpoint = _no_failpoint) -> None:
    """Do what was decided, if anything was. The replica is the caller's alone.

    Raises:
        DamagedError: what is to be moved is neither where it was nor where it should be.
    """
    if names.MERGING not in store.names(folder):
        return
    merging = f"{folder}/{names.MERGING}"
    members = small_file.read(store, f"{merging}/{MOVES_FILE}")
    for name in (names.TRASH, names.RECORDS):
        store.make_folder(f"{folder}/{name}")
    for source, to in members[_FILES]:
        _move(store, folder, source, to)
        failpoint(MERGE_MOVED)
    # Files first, for good: a folder that went before its files were sure would take them along.
    for path in sorted({to.rpartition("/")[0] for _, to in members[_FILES]}):
        store.sync_folder(f"{folder}/{path}")
    gone = members[_FOLDERS]
    _set_aside(store, folder, names.POINTS, gone, failpoint)
    # The notes last: a folder without one would be a point again.
    _set_aside(store, folder, names.DROPPED, [f"{name}.json" for name in gone], failpoint)
    failpoint(MERGE_APPLIED)
    store.remove_tree(f"{folder}/{names.TRASH}/{names.MERGING}")
    store.rename(merging, f"{folder}/{names.TRASH}/{names.MERGING}")
    store.sync_folder(f"{folder}/{names.TRASH}")
    store.sync_folder(folder)
    failpoint(MERGE_OVER)


def empty_trash(store: Store, folder: str) -> None:
    """Remove what nothing names any more."""
    store.remove_tree(f"{folder}/{names.TRASH}")


def _set_aside(store: Store, folder: str, where: str, going: Sequence[str], failpoint: Failpoint) -> None:
    """Move what is left of ``going`` into the trash, durably."""
    for name in going:
        if name in store.names(f"{folder}/{where}"):
            store.rename(f"{folder}/{where}/{name}", f"{folder}/{names.TRASH}/{name}")
        failpoint(MERGE_MOVED)
    for path in (names.TRASH, where):
        store.sync_folder(f"{folder}/{path}")


def _move(store: Store, folder: str, source: str, to: str) -> None:
    try:
        store.rename(f"{folder}/{source}", f"{folder}/{to}")
    except NotFoundError:
        into, _, name = to.rpartition("/")
        if name not in store.names(f"{folder}/{into}"):
            raise small_file.damaged(f"{folder}/{to}", "a merge should have moved it there") from None

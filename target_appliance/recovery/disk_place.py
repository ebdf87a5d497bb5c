"""Where a disk of a sync is written and as what, and the steps of writing it at which a test may end the process."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from common.ids import DiskKey, PointNumber, SyncId
from target_appliance.recovery import names
from target_appliance.recovery.types import DiskSpec
from target_appliance.seal.keys import Entropy
from target_appliance.store.port import Store

Failpoint = Callable[[str], None]
"""Called with a step's name when the step is done; a test may end the process there."""

FILES_FINISHED: Final = "files-finished"
FILES_SYNCED: Final = "files-synced"
DIGESTS_WRITTEN: Final = "digests-written"


@dataclass(frozen=True, slots=True)
class ResumePlace:
    """What lets a disk go on after a restart: the folder of its journal, and what that is bound to."""

    folder: str
    about: bytes
    reopened: bool
    """The sync was begun by an earlier process, whose files may lie there."""

    def journal(self, disk: DiskKey) -> str:
        """Where the disk's journal lies."""
        return f"{self.folder}/{names.journal_file(disk)}"


@dataclass(frozen=True, slots=True)
class DiskPlace:
    """What a disk is written as: where, for which point, on which base."""

    store: Store
    folder: str
    spec: DiskSpec
    sync: SyncId
    point: PointNumber
    base_point: PointNumber | None
    entropy: Entropy
    resume: ResumePlace | None = None

    def path(self, name: str) -> str:
        """Where a file of the disk lies."""
        return f"{self.folder}/{name}"


def protect(place: DiskPlace) -> None:
    """Make the finished files of a disk read-only for good."""
    for name in names.of_disk(place.spec.key, place.store.names(place.folder)):
        place.store.protect(place.path(name))

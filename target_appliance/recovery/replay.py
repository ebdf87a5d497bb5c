"""A staged disk as an earlier process left it, made whole again from its journal; or refused, never a wrong byte.

The data file is read forward through the same writers: every grain must open under the disk's key and have the digest
of the journal, all else must be what these writers would write. What lies behind the last durable step is cut off.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from common.errors import NotFoundError
from common.grain import digest, grain_count
from target_appliance.recovery import journal
from target_appliance.recovery.disk_place import DiskPlace, Failpoint, protect
from target_appliance.recovery.disk_writer import SealedDiskWriter
from target_appliance.recovery.journal import ENTRY, Finished, Seal
from target_appliance.recovery.replay_file import ReplayError, ReplayFile
from target_appliance.recovery.types import DiskRecord
from target_appliance.seal.grain import GrainOpener, UnsealError
from target_appliance.seal.keys import DataKey


@dataclass(frozen=True, slots=True)
class FinishedDisk:
    """A disk that an earlier process completed: a SealedDiskWriter that takes no more grains."""

    place: DiskPlace
    record: DiskRecord
    stored_bytes: int
    finished: bool = True

    @property
    def next_grain(self) -> int:
        """Past the end."""
        return grain_count(self.place.spec.capacity_bytes)

    def finish(self) -> None:
        """It is."""

    def rest(self) -> None:
        """It does."""

    def close(self) -> None:
        """It holds nothing."""

    def protect(self) -> None:
        """See SealedDiskWriter."""
        protect(self.place)


def restored(place: DiskPlace, key: DataKey, failpoint: Failpoint) -> SealedDiskWriter | FinishedDisk | None:
    """The disk as far as it was durable; None when no stream of it ever began.

    Raises:
        ReplayError: what is staged is not what was written.
        StoreError: the store's.
    """
    resume = place.resume
    if resume is None:
        return None
    seal = Seal(key, place.point, place.sync, resume.about, place.entropy)
    try:
        file = place.store.open(resume.journal(place.spec.key))
    except NotFoundError:
        return None
    with file:
        last: bytes | Finished | None = None
        for found, _end in journal.read(file, seal):
            last = found
        if last is None:
            return None
        if isinstance(last, Finished):
            return _finished(place, key, last)
        writer = SealedDiskWriter(place, key, failpoint, lambda path: ReplayFile(place.store, path))
        try:
            frames, position = _replay(writer, place, GrainOpener(key), journal.read(file, seal))
            writer.go_on()
            writer.keep_journal(resume, frames, position)
        except BaseException:
            writer.close()
            raise
    return writer


def _replay(
    writer: SealedDiskWriter, place: DiskPlace, opener: GrainOpener, steps: Iterable[tuple[bytes | Finished, int]]
) -> tuple[int, int]:
    """Take in every grain of ``steps``; their number, and where the last one ends."""
    frames = position = 0
    for entries, end in steps:
        if isinstance(entries, Finished):
            raise ReplayError("its journal goes on behind its end")
        for grain, size, mark in ENTRY.iter_unpack(entries):
            payload = writer.readd(grain, size, mark)
            if payload is not None:
                _check(opener, place, grain, payload, mark)
        frames, position = frames + 1, end
    return frames, position


def _check(opener: GrainOpener, place: DiskPlace, grain: int, payload: memoryview, mark: bytes) -> None:
    try:
        plain = opener.unseal(payload, grain, place.point)
    except UnsealError as error:
        raise ReplayError(f"a grain does not open: {error}") from None
    if digest(plain) != mark:
        raise ReplayError("a grain is another one")


def _finished(place: DiskPlace, key: DataKey, done: Finished) -> FinishedDisk:
    own = (f"disk-{place.spec.key}.", f"disk-{place.spec.key}-")
    size = 0
    for name in place.store.names(place.folder):
        if name.startswith(own):
            with place.store.open(f"{place.folder}/{name}") as file:
                size += file.size
    if size != done.stored_bytes:
        raise ReplayError("a finished disk has other files")
    record = DiskRecord(place.spec, place.base_point, key.epoch, done.grains, done.root)
    return FinishedDisk(place, record, done.stored_bytes)

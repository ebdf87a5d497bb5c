"""One disk of a sync being sealed: extents, manifest and digest list, written front to back."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import Final

from common.errors import ProtocolError, StoreError
from common.grain import grain_count
from common.sync.events import GrainRecord
from target_appliance.recovery import disk_place, names
from target_appliance.recovery import journal as journals
from target_appliance.recovery.describe import sealed_descriptor
from target_appliance.recovery.digests import DigestedFile
from target_appliance.recovery.disk_files import DiskFiles
from target_appliance.recovery.disk_place import DiskPlace, Failpoint, ResumePlace
from target_appliance.recovery.grain_run import RUN_GRAINS, RunSealer
from target_appliance.recovery.replay_file import ReplayError, ReplayFile
from target_appliance.recovery.resting_file import RestingFile
from target_appliance.recovery.types import DiskRecord
from target_appliance.seal.grain import GrainSealer
from target_appliance.seal.keys import DataKey
from target_appliance.seal.manifest import RECORD, ManifestWriter
from target_appliance.vmdk.descriptor import Descriptor
from target_appliance.vmdk.layout import (
    EXTENT_MOST_BYTES,
    GRAIN_SECTORS,
    SECTOR_BYTES,
    extent_capacities,
)
from target_appliance.vmdk.writer import ExtentWriter

_EXTENT_GRAINS: Final = EXTENT_MOST_BYTES // (GRAIN_SECTORS * SECTOR_BYTES)


class SealedDiskWriter:
    """One disk of one sync. One thread appends; ``close`` may come from another, and waits for it.

    After any failure every later call but ``close`` is refused: the sync must be discarded.
    """

    def __init__(
        self,
        place: DiskPlace,
        key: DataKey,
        failpoint: Failpoint,
        extent_files: Callable[[str], ReplayFile] | None = None,
    ) -> None:
        """Begin a disk; ``extent_files`` opens the files of one that is replayed (see ``replay``)."""
        self._place = place
        self._extent_files = extent_files
        self._journal: journals.JournalWriter | None = None
        self._fresh = bytearray()
        self._key = key
        self._failpoint = failpoint
        self._lock = threading.RLock()
        self._capacities = extent_capacities(place.spec.capacity_bytes)
        self._grains = grain_count(place.spec.capacity_bytes)
        self._sealer = RunSealer(GrainSealer(key, place.point), place.entropy)
        self._last_grain = -1
        self._extent: ExtentWriter | None = None
        self._extent_file: DigestedFile | None = None
        self._extents_begun = 0
        self._failed = False
        self._closed = False
        self._record: DiskRecord | None = None
        with ExitStack() as undo:
            self._files = undo.enter_context(closing(DiskFiles(place, key.replica, place.point)))
            self._manifest_file = DigestedFile(self._files.create(names.manifest_file(place.spec.key)))
            self._manifest = ManifestWriter(self._manifest_file, key, place.point, place.sync, place.entropy)
            if len(self._capacities) > 1:
                self._write_descriptor()
            if place.resume is not None and extent_files is None:
                self.keep_journal(place.resume, 0, 0)
            undo.pop_all()

    def append(self, records: Sequence[GrainRecord]) -> None:
        """Seal and write grains that the caller has checked against their digests.

        Raises:
            ProtocolError: a grain is not higher than the one before it, or lies past the end. Nothing was written.
            StoreError, StoreFullError: the store's.
        """
        with self._guarded():
            last = self._last_grain
            for record in records:
                if not last < record.grain < self._grains:
                    raise ProtocolError(
                        f"grain {record.grain} after {last} of {self._grains} cannot be",
                        subject=f"disk {self._place.spec.key}",
                        next_step="sync again; if it happens twice, report it with both sides' versions",
                    )
                last = record.grain
            self._last_grain = last
            begin = 0
            while begin < len(records):
                number = records[begin].grain // _EXTENT_GRAINS
                stop = begin + 1
                while stop < min(len(records), begin + RUN_GRAINS) and (
                    records[stop].grain // _EXTENT_GRAINS == number
                ):
                    stop += 1
                self._seal(self._enter_extent(number), records[begin:stop])
                begin = stop
            if len(self._fresh) >= journals.MOST_ENTRIES * journals.ENTRY.size:
                self._make_durable()

    def sync(self) -> None:
        """Make durable what was appended."""
        with self._guarded():
            self._make_durable()

    def _make_durable(self) -> None:
        """The data first, then the names of new files, then the journal that says so."""
        if self._extent_file is not None:
            self._extent_file.sync()
        if self._journal is not None and self._fresh:
            self._files.sync_names()
            self._journal.step(bytes(self._fresh))
            self._fresh.clear()

    def rest(self) -> None:
        """Make durable what was appended, and hold neither files nor the sealing buffer until the next append."""
        with self._lock:
            if self._record is None:
                with self._guarded():
                    self._make_durable()
                    self._sealer.rest()
                    self._files.rest()

    def finish(self) -> None:
        """Complete all files, durable; again does nothing. ``protect`` makes them read-only."""
        with self._lock:
            if self._record is None:
                with self._guarded():
                    self._record = self._finish()

    @property
    def finished(self) -> bool:
        """Whether all files are complete and durable."""
        return self._record is not None

    @property
    def next_grain(self) -> int:
        """The lowest grain that may be appended; what was appended below it is durable after ``sync`` or ``rest``."""
        return self._last_grain + 1

    @property
    def record(self) -> DiskRecord:
        """The disk's part of the point's record; only after ``finish``."""
        if self._record is None:
            raise ValueError("the disk is not finished")
        return self._record

    @property
    def stored_bytes(self) -> int:
        """Bytes of the finished files."""
        return self._files.stored_bytes

    def close(self) -> None:
        """Let go of files and memory; what was not finished is lost."""
        with self._lock:
            self._closed = True
            self._sealer.rest()
            self._files.close()

    def protect(self) -> None:
        """Make the finished files read-only for good."""
        disk_place.protect(self._place)

    def _finish(self) -> DiskRecord:
        spec = self._place.spec
        self._enter_extent(len(self._capacities) - 1)
        self._end_extent()
        root = self._manifest.finish()
        self._failpoint(disk_place.FILES_FINISHED)
        self._files.settle(names.manifest_file(spec.key), self._manifest_file)
        self._failpoint(disk_place.FILES_SYNCED)
        self._files.finish_list()
        self._failpoint(disk_place.DIGESTS_WRITTEN)
        if self._journal is not None:
            self._files.sync_names()
            self._journal.finished(journals.Finished(self._manifest.records, root, self._files.stored_bytes))
        self._sealer.rest()  # the sync holds the writers of all its disks to its end
        self._files.close()
        return DiskRecord(spec, self._place.base_point, self._key.epoch, self._manifest.records, root)

    def _seal(self, extent: ExtentWriter, records: Sequence[GrainRecord]) -> None:
        run = self._sealer.seal(records, (self._extents_begun - 1) * _EXTENT_GRAINS)
        extent.add_run(run.placed, run.records)
        extent.flush()
        self._manifest.add(run.manifest)
        if self._journal is not None:
            self._fresh += run.journal

    def _enter_extent(self, number: int) -> ExtentWriter:
        """The writer of extent ``number``, from 0; extents before it are completed, empty ones included."""
        while self._extent is None or self._extents_begun <= number:
            self._end_extent()
            capacity = self._capacities[self._extents_begun]
            name = self._extent_name(self._extents_begun)
            embedded = self._descriptor().embedded() if len(self._capacities) == 1 else None
            self._extent_file = DigestedFile(self._create_extent(name))
            self._extent = ExtentWriter(self._extent_file, capacity, embedded)
            self._extents_begun += 1
        return self._extent

    def _end_extent(self) -> None:
        if self._extent is not None and self._extent_file is not None:
            self._extent.finish()
            self._files.settle(self._extent_name(self._extents_begun - 1), self._extent_file)
            self._extent = self._extent_file = None

    def _write_descriptor(self) -> None:
        name = names.disk_file(self._place.spec.key)
        with closing(DigestedFile(self._create_extent(name))) as file:
            file.append([self._descriptor().encode()])
            self._files.settle(name, file)

    def _create_extent(self, name: str) -> RestingFile | ReplayFile:
        if self._extent_files is None:
            return self._files.create(name)
        self._replayed = self._extent_files(self._place.path(name))
        self._files.hold(self._replayed)
        return self._replayed

    def keep_journal(self, resume: ResumePlace, frames: int, position: int) -> None:
        """Note every durable step from now on; the journal holds so many frames already, and ends at ``position``."""
        place = self._place
        path = resume.journal(place.spec.key)
        if position:
            file = RestingFile(place.store, path, position)
            self._files.hold(file)
        else:
            file = self._files.create_at(path)
        seal = journals.Seal(self._key, place.point, place.sync, resume.about, place.entropy)
        self._journal = journals.JournalWriter(file, seal, frames)

    def readd(self, grain: int, size: int, digest: bytes) -> memoryview | None:
        """Take in again a grain that an earlier process sealed; only while the disk is replayed.

        Args:
            grain: index on the disk.
            size: bytes of its record in the extent; 0: zeros.
            digest: of its plaintext.

        Returns:
            The record's payload, which the caller opens and compares; None for zeros.

        Raises:
            ReplayError: what lies there is no record of that grain.
        """
        if not self._last_grain < grain < self._grains:
            raise ReplayError("grains do not rise")
        number = grain // _EXTENT_GRAINS
        extent = self._enter_extent(number)
        within = grain - number * _EXTENT_GRAINS
        record, payload = b"", None
        if size:
            record, payload = self._replayed.grain(extent.next_position(within), within, size)
        extent.add(within, record)
        extent.flush()
        self._manifest.add(RECORD.pack(grain, digest))
        self._last_grain = grain
        return payload

    def go_on(self) -> None:
        """The replay is over: what is appended is written from now on."""
        self._extent_files = None
        if self._extent_file is not None:
            self._replayed.go_live()

    def _descriptor(self) -> Descriptor:
        return sealed_descriptor(self._place.spec, self._place.point, self._place.base_point)

    def _extent_name(self, number: int) -> str:
        return names.extent_file(self._place.spec.key, number + 1, len(self._capacities))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Hold the lock; anything but a refusal ends the writer."""
        with self._lock:
            if self._failed or self._closed or self._record is not None:
                raise StoreError(
                    f"disk {self._place.spec.key} takes no more data: it is finished, or an earlier write failed",
                    subject=f"disk {self._place.spec.key}",
                    next_step="sync again",
                )
            try:
                yield
            except ProtocolError:
                raise
            except BaseException:
                self._failed = True
                raise

"""A sync under way: its disks are sealed into a staging folder, which a commit renames to a point.

Order of a commit: every disk's files complete and durable, digest lists, the record, the staging folder's names, then
the rename, then the points folder. The rename is the commit: before it nothing shows, after it everything does.
"""

import dataclasses
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from common.errors import AlreadyExistsError, FencedError, InvalidInputError, PreconditionError
from common.ids import AgentId, DiskKey, PointNumber, ReplicaId, SyncId, TenantId
from target_appliance.recovery import names, parked, record_file, small_file
from target_appliance.recovery.disk_place import (
    DIGESTS_WRITTEN,
    FILES_FINISHED,
    FILES_SYNCED,
    DiskPlace,
    Failpoint,
    ResumePlace,
)
from target_appliance.recovery.disk_writer import SealedDiskWriter
from target_appliance.recovery.key_files import KeyFiles
from target_appliance.recovery.replay import FinishedDisk, restored
from target_appliance.recovery.types import (
    NO_PARENT_HASH,
    CommittedPoint,
    DiskProgress,
    DiskRecord,
    DiskSpec,
    PointRecord,
    SealedVm,
    SyncHeader,
)
from target_appliance.retention.stamp import Stamp
from target_appliance.seal.keys import DataKey, Entropy
from target_appliance.store.port import Store

RECORD_WRITTEN: Final = "record-written"
STAGING_SYNCED: Final = "staging-synced"
RENAMED: Final = "renamed"
POINTS_SYNCED: Final = "points-synced"
COMMIT_STEPS: Final = (
    FILES_FINISHED,
    FILES_SYNCED,
    DIGESTS_WRITTEN,
    RECORD_WRITTEN,
    STAGING_SYNCED,
    RENAMED,
    POINTS_SYNCED,
)
"""Every step at which the failpoint is called, in order; the first three once per disk."""


@dataclass(frozen=True, slots=True)
class SyncPlan:
    """What a sync will become, fixed when it begins."""

    tenant: TenantId
    replica: ReplicaId
    sync: SyncId
    header: SyncHeader
    point: PointNumber
    parent: PointRecord | None
    bases: Mapping[DiskKey, PointNumber | None]
    keys: Mapping[DiskKey, DataKey] = dataclasses.field(repr=False)
    entropy: Entropy
    owner: AgentId | None = None
    """The agent whose sync it is, which may go on with it after a restart; None: it cannot go on."""
    vm: SealedVm | None = None
    """The VM's configuration, which is staged already."""


class StagedSync:
    """One sync's staging folder, which exists. Thread-safe; each disk is written by one thread."""

    def __init__(
        self,
        store: Store,
        stamp: Callable[[TenantId], Stamp],
        plan: SyncPlan,
        failpoint: Failpoint,
        *,
        reopened: bool = False,
    ) -> None:
        self._store = store
        self._stamp = stamp
        self._plan = plan
        self._failpoint = failpoint
        self._folder = names.sync_folder(plan.tenant, plan.replica, plan.sync)
        self._files = KeyFiles(store)
        self._lock = threading.Lock()
        self._writers: dict[DiskKey, SealedDiskWriter | FinishedDisk] = {}
        self._over = False
        self._resume: ResumePlace | None = None
        if plan.owner is not None:
            folder = names.resume_folder(plan.tenant, plan.replica, plan.sync)
            self._resume = ResumePlace(
                folder, parked.parked(plan.owner, self._empty_record(), plan.keys).about, reopened
            )
        self.disks = {spec.key: spec for spec in plan.header.disks}
        """What the sync announced, by disk."""

    @property
    def point(self) -> PointNumber:
        """The number the point will have."""
        return self._plan.point

    def disk(self, key: DiskKey) -> SealedDiskWriter:
        """The writer of a disk, the same one each time.

        Raises:
            InvalidInputError: the sync has no such disk.
            FencedError: the sync was committed or discarded.
        """
        with self._lock:
            self._require_open()
            writer = self._writers.get(key)
            if writer is None:
                spec = self.disks.get(key)
                if spec is None:
                    raise InvalidInputError(
                        f"disk {key} is not part of the sync",
                        subject=f"disk {key}",
                        next_step="announce it when the sync begins",
                    )
                plan = self._plan
                writer = self._writers[key] = SealedDiskWriter(self._place(spec), plan.keys[key], self._failpoint)
            if isinstance(writer, FinishedDisk):
                raise InvalidInputError(
                    f"disk {key} is complete already",
                    subject=f"disk {key}",
                    next_step="ask for the sync's progress",
                )
            return writer

    def restore(self) -> None:
        """Make whole what an earlier process staged.

        Raises:
            ReplayError: it is not what was written; ``discard`` is the caller's then.
            StoreError, StoreFullError: the store's.
        """
        with self._lock:
            for spec in self._plan.header.disks:
                found = restored(self._place(spec), self._plan.keys[spec.key], self._failpoint)
                if found is not None:
                    self._writers[spec.key] = found

    def _place(self, spec: DiskSpec) -> DiskPlace:
        plan = self._plan
        base = plan.bases[spec.key]
        return DiskPlace(self._store, self._folder, spec, plan.sync, plan.point, base, plan.entropy, self._resume)

    def progress(self) -> tuple[DiskProgress, ...]:
        """How far each disk is, after what was appended was made durable. No stream may be writing.

        Raises:
            StoreError, StoreFullError: a disk cannot be made durable, or failed before: the sync is to be discarded.
            FencedError: the sync was committed or discarded.
        """
        with self._lock:
            self._require_open()
            return tuple(self._progress(key) for key in self.disks)

    def _progress(self, key: DiskKey) -> DiskProgress:
        writer = self._writers.get(key)
        if writer is None:
            return DiskProgress(key, finished=False, next_grain=0)
        if isinstance(writer, SealedDiskWriter) and not writer.finished:
            writer.sync()
        return DiskProgress(key, finished=writer.finished, next_grain=writer.next_grain)

    def rest(self) -> None:
        """Make durable what was appended and hold no files until somebody goes on. Raises as ``progress`` does."""
        with self._lock:
            self._require_open()
            for writer in self._writers.values():
                writer.rest()

    def commit(self) -> CommittedPoint:
        """Make all disks one point, durable and for good.

        A failure before the rename leaves nothing but the staging folder; ``discard`` is the caller's then.

        Raises:
            PreconditionError: a disk was never written.
            PreconditionError: the tenant is being erased.
            FencedError: the point exists already, or the sync is over.
            DamagedError: the tenant's retention settings cannot be read, so nobody can say how long to lock it.
            StoreError, StoreFullError: the store's.
        """
        with self._lock:
            self._require_open()
            missing = self.disks.keys() - self._writers.keys()
            if missing:
                raise PreconditionError(
                    f"disk {min(missing)} was not sent",
                    subject=f"sync {self._plan.sync}",
                    next_step="send every disk, an unchanged one as an empty stream, before the commit",
                )
            for spec in self._plan.header.disks:
                self._writers[spec.key].finish()
            for writer in self._writers.values():
                writer.protect()
            record = self._record()
            members = record_file.to_members(record, self._plan.keys)
            size = small_file.write(self._store, f"{self._folder}/{names.RECORD_FILE}", members)
            self._failpoint(RECORD_WRITTEN)
            self._store.sync_folder(self._folder)
            self._failpoint(STAGING_SYNCED)
            with self._files.still_kept(self._plan.tenant):
                self._rename()
            self._over = True
            self._remove_resume()
            size += 0 if self._plan.vm is None else self._plan.vm.size
            stored = size + sum(writer.stored_bytes for writer in self._writers.values())
            return CommittedPoint(self._plan.point, record.record_hash, stored)

    def discard(self) -> None:
        """End the sync without a point and remove what it staged; harmless after a commit, and again."""
        with self._lock:
            for writer in self._writers.values():
                writer.close()
            if not self._over:
                self._over = True
                self._store.remove_tree(self._folder)
                self._remove_resume()

    def _remove_resume(self) -> None:
        if self._resume is not None:
            self._store.remove_tree(self._resume.folder)

    def _empty_record(self) -> PointRecord:
        """The point's record as far as it is known when the sync begins."""
        plan, header = self._plan, self._plan.header
        disks = (parked.disk_record(spec, plan.bases[spec.key], plan.keys[spec.key]) for spec in header.disks)
        return self._record_of(tuple(disks), Stamp(0))

    def park_place(self) -> None:
        """Keep what the sync said of itself, so that it may go on after a restart."""
        if self._plan.owner is not None:
            parked.write(self._store, parked.parked(self._plan.owner, self._empty_record(), self._plan.keys))

    def _record(self) -> PointRecord:
        disks = tuple(self._writers[spec.key].record for spec in self._plan.header.disks)
        return self._record_of(disks, self._stamp(self._plan.tenant))

    def _record_of(self, disks: tuple[DiskRecord, ...], stamp: Stamp) -> PointRecord:
        plan, header = self._plan, self._plan.header
        record = PointRecord(
            tenant=plan.tenant,
            replica=plan.replica,
            number=plan.point,
            sync=plan.sync,
            kind=header.kind,
            vm_name=header.vm_name,
            snapshot_time=header.snapshot_time,
            commit_time=stamp.commit_time,
            consistency=header.consistency,
            parent=None if plan.parent is None else plan.parent.number,
            parent_hash=NO_PARENT_HASH if plan.parent is None else plan.parent.record_hash,
            disks=disks,
            record_hash=b"",
            counted_time=stamp.counted_time,
            locked_until=stamp.locked_until,
            vm=plan.vm,
        )
        return dataclasses.replace(record, record_hash=record_file.record_hash(record))

    def _rename(self) -> None:
        plan = self._plan
        points = names.points_folder(plan.tenant, plan.replica)
        for disk, base in plan.bases.items():
            # Dropped and gone since the sync began: only a disk that the newest point lacks can stand on such a one.
            if base is not None and names.digests_file(disk) not in self._store.names(
                names.point_folder(plan.tenant, plan.replica, base)
            ):
                raise FencedError(
                    f"point {base}, on which disk {disk} was to stand, was dropped meanwhile",
                    subject=f"replica {plan.replica}",
                    next_step="sync again",
                )
        self._store.make_folder(points)
        try:
            self._store.rename(self._folder, names.point_folder(plan.tenant, plan.replica, plan.point))
        except AlreadyExistsError as error:
            raise FencedError(
                f"point {plan.point} was committed by another sync",
                subject=f"replica {plan.replica}",
                next_step="sync again",
            ) from error
        self._failpoint(RENAMED)
        self._store.sync_folder(points)
        self._failpoint(POINTS_SYNCED)

    def _require_open(self) -> None:
        if self._over:
            raise FencedError(
                "the sync is over: it was committed or discarded",
                subject=f"sync {self._plan.sync}",
                next_step="sync again",
            )

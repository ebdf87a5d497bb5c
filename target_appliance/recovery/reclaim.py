"""Giving back the space of dropped points: what nothing needs goes, what is worth it is merged. No key is used.

One process at a time per replica. A merge is made ready beside the points, while others read them; only its renames
need the replica alone, and they are not waited for: who reads goes first.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field

from common.errors import BusyError, NotFoundError
from common.ids import DiskKey, PointNumber, ReplicaId, TenantId
from target_appliance.recovery import merge_moves, names, points
from target_appliance.recovery.checked_file import Chunks
from target_appliance.recovery.disk_place import Failpoint
from target_appliance.recovery.file_pool import FilePool
from target_appliance.recovery.findings import Progress
from target_appliance.recovery.inventory import Inventory, inventory
from target_appliance.recovery.key_files import KeyFiles
from target_appliance.recovery.merge_build import DiskMerge, Place
from target_appliance.recovery.merge_moves import MERGE_TRASHED, Moves
from target_appliance.recovery.merge_plan import Sized, choose
from target_appliance.recovery.merge_sizes import sized
from target_appliance.recovery.reading import alone
from target_appliance.recovery.small_file import damaged
from target_appliance.store.port import Store
from target_appliance.vmdk.reader import LayoutError


@dataclass
class Reclaimed:
    """What one run did to a replica."""

    replica: ReplicaId
    removed: list[PointNumber] = field(default_factory=list)
    """Dropped points that are gone, because nothing stood on them or because what did absorbed them."""
    written: int = 0
    """Bytes of new files."""
    freed: int = 0
    """By how many bytes the replica's points are smaller."""
    waiting: int = 0
    """Dropped points that are still there: kept ones stand on them, and merging is not worth it yet."""
    put_off: str | None = None
    """Why not all was done: the replica is being read."""


class Reclaimer:
    """Reclaims space of one replica.

    Args:
        store: where it lies.
        failpoint: see ``merge_moves.MERGE_STEPS``.
        tenant: owner.
        replica: which.
    """

    def __init__(self, store: Store, failpoint: Failpoint, tenant: TenantId, replica: ReplicaId) -> None:
        self._store = store
        self._failpoint = failpoint
        self._tenant = tenant
        self._replica = replica
        self._folder = names.replica_folder(tenant, replica)
        self._keys = KeyFiles(store)

    def settle(self) -> None:
        """Finish or sweep away what an earlier process left behind.

        Raises:
            PreconditionError: the tenant is being erased.
            BusyError: somebody is reclaiming, or reading all the time.
            DamagedError: a merge cannot be finished.
        """
        with self._only_one():
            pass

    def run(self, progress: Progress) -> Reclaimed:
        """Reclaim what is worth it now.

        Args:
            progress: called with bytes read; what it raises ends the run, and nothing is lost.

        Raises:
            NotFoundError: there is no such replica.
            PreconditionError: the tenant is being erased.
            BusyError: another process is reclaiming.
            DamagedError: what is to be merged is not what was written; nothing of it was touched.
            StoreError, StoreFullError: the store's; nothing was touched.
        """
        self._keys.require_kept(self._tenant)
        done = Reclaimed(self._replica)
        with self._only_one():
            before = self._bytes()
            try:
                while self._step(done, progress):
                    pass
            except BusyError as error:
                done.put_off = error.message
            finally:
                self._store.remove_tree(f"{self._folder}/{names.MERGE}")
            done.freed = before - self._bytes()
            done.waiting = len(inventory(self._store, self._tenant, self._replica).dropped)
        return done

    @contextmanager
    def _only_one(self) -> Iterator[None]:
        with self._store.lock(f"{self._folder}/{names.RECLAIM_LOCK}"):
            if names.MERGING in self._store.names(self._folder):
                with alone(self._store, self._tenant, self._replica):
                    merge_moves.finish(self._store, self._folder, self._failpoint)
            self._store.remove_tree(f"{self._folder}/{names.MERGE}")
            merge_moves.empty_trash(self._store, self._folder)
            with self._keys.still_kept(self._tenant):
                self._store.remove_tree(f"{self._folder}/{names.DROPPED}/{names.REWRITE}")
            yield

    def _step(self, done: Reclaimed, progress: Progress) -> bool:
        """Remove what nothing needs, or merge once; False when there is nothing to do."""
        have = inventory(self._store, self._tenant, self._replica)
        if not have.dropped:
            return False
        # Somebody who reads now would most likely still read when the merge is ready.
        with alone(self._store, self._tenant, self._replica, seconds=0):
            pass
        moves = Moves()
        going = frozenset(have.unneeded)
        spare = self._spare(have, moves)
        if going or spare:
            self._store.make_folder(f"{self._folder}/{names.MERGE}")
        else:
            going = self._merge(have, moves, done, progress)
        if not going and not spare:
            return False
        self._records(sorted(going), moves)
        self._apply(have, going, spare, moves)
        done.removed.extend(sorted(going))
        return True

    def _spare(self, have: Inventory, moves: Moves) -> set[tuple[PointNumber, DiskKey]]:
        """Disks that nothing needs, of dropped points that another disk is needed of; their files go."""
        found = set()
        for point in sorted(have.dropped.difference(have.unneeded)):
            place = f"{names.POINTS}/{names.point_name(point)}"
            there = self._store.names(f"{self._folder}/{place}")
            for disk in have.records[point].disks:
                key = disk.spec.key
                if (point, key) not in have.needed:
                    for name in names.of_disk(key, there):
                        found.add((point, key))
                        moves.files.append((f"{place}/{name}", f"{names.TRASH}/{names.point_name(point)}.{name}"))
        return found

    def _merge(self, have: Inventory, moves: Moves, done: Reclaimed, progress: Progress) -> frozenset[PointNumber]:
        """Make the merge ready that is worth most; returns the points that will be absorbed."""
        runs = []
        for run in have.runs():
            try:
                runs.append(sized(self._store, self._tenant, self._replica, have, run))
            except LayoutError as error:
                where = f"{self._folder}, disk {run.disk}, points {run.points[0]} to {run.points[-1]}"
                raise damaged(where, str(error)) from error
            except NotFoundError as error:
                raise damaged(error.subject, "it is missing") from error
        going = choose(_segments(have), runs, _absorbed(have))
        if going:
            self._store.make_folder(f"{self._folder}/{names.MERGE}")
            done.written += self._build(have, runs, going, moves, progress)
        return going

    def _build(
        self, have: Inventory, runs: list[Sized], going: frozenset[PointNumber], moves: Moves, progress: Progress
    ) -> int:
        written = 0
        with closing(FilePool(self._store)) as pool:
            place = Place(self._store, self._tenant, self._replica, have, Chunks(progress), pool)
            for run in runs:
                span = run.span(going)
                if span is not None:
                    disk = DiskMerge(place, run, span, moves)
                    disk.build()
                    written += disk.written
        return written

    def _records(self, going: list[PointNumber], moves: Moves) -> None:
        """Records stay, byte for byte, when folders go: the hash chain and the points above name them."""
        for point in going:
            name = names.point_name(point)
            with self._store.open(f"{self._folder}/{names.POINTS}/{name}/{names.RECORD_FILE}") as file:
                content = file.read_at(0, file.size)
            path = f"{self._folder}/{names.MERGE}/{name}.json"
            with self._store.create(path) as made:
                made.append([content])
                made.sync()
            self._store.protect(path)
            moves.files.append((f"{names.MERGING}/{name}.json", f"{names.RECORDS}/{name}.json"))
            moves.gone.append(name)

    def _apply(
        self, have: Inventory, going: frozenset[PointNumber], spare: set[tuple[PointNumber, DiskKey]], moves: Moves
    ) -> None:
        with ExitStack() as held:
            held.enter_context(alone(self._store, self._tenant, self._replica, seconds=0))
            held.enter_context(self._keys.still_kept(self._tenant))
            self._refuse_new(have, going, spare)
            merge_moves.decide(self._store, self._folder, moves, self._failpoint)
            merge_moves.finish(self._store, self._folder, self._failpoint)
        merge_moves.empty_trash(self._store, self._folder)
        self._failpoint(MERGE_TRASHED)

    def _refuse_new(
        self, have: Inventory, going: frozenset[PointNumber], spare: set[tuple[PointNumber, DiskKey]]
    ) -> None:
        """Return unless a point was committed meanwhile that stands on one of those that go."""
        for number in points.folders(self._store, self._tenant, self._replica):
            if number in have.folders:
                continue
            record, _ = points.read_point(self._store, self._tenant, self._replica, number)
            if any(disk.base_point in going or (disk.base_point, disk.spec.key) in spare for disk in record.disks):
                raise BusyError(
                    f"point {number} was just committed on points that were to go",
                    subject=f"replica {self._replica}",
                    next_step="try again",
                )

    def _bytes(self) -> int:
        return sum(
            points.folder_bytes(self._store, names.point_folder(self._tenant, self._replica, number))
            for number in points.folders(self._store, self._tenant, self._replica)
        )


def _segments(have: Inventory) -> list[list[PointNumber]]:
    """Dropped points with no kept one between them."""
    found: list[list[PointNumber]] = [[]]
    for number in sorted(have.folders):
        if number in have.dropped:
            found[-1].append(number)
        elif found[-1]:
            found.append([])
    return [segment for segment in found if segment]


def _absorbed(have: Inventory) -> dict[PointNumber, int]:
    disks = {disk for _, disk in have.needed}
    return {point: max(len(have.absorbed(point, disk)) for disk in disks) for point in have.dropped}

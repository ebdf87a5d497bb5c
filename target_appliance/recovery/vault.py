"""Everything about replicas at rest: list points, read digests and data, check, drop; ``syncs`` begins new ones.

A composition of a store and a key server; holds no state of its own, so that several processes may share a store. Who
may write a replica is decided elsewhere (the lease).
"""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.clock import Clock
from common.errors import NotFoundError
from common.grain import grain_count
from common.ids import (
    DiskKey,
    PointNumber,
    ReplicaId,
    TenantId,
    parse_tenant,
)
from target_appliance.kms.directory import KmsDirectory
from target_appliance.kms.port import Kms
from target_appliance.recovery import begin, dropped, names, points
from target_appliance.recovery.chain import Chain, DiskView
from target_appliance.recovery.export.forms import Form, export
from target_appliance.recovery.findings import Progress, Report
from target_appliance.recovery.key_cache import KEEP_SECONDS
from target_appliance.recovery.keyring import Keyring
from target_appliance.recovery.reclaim import Reclaimed, Reclaimer
from target_appliance.recovery.syncs import Syncs
from target_appliance.recovery.types import PointRecord
from target_appliance.recovery.verify import verify
from target_appliance.retention.clock import TrustedTime
from target_appliance.seal.fold import HOLE, windows, within
from target_appliance.seal.keys import Entropy
from target_appliance.store.port import Store


def _no_failpoint(_step: str) -> None:
    """What a failpoint does outside of tests."""


def _no_progress(_bytes: int) -> None:
    """Nobody watches."""


class Vault:
    """Replicas at rest. Thread-safe.

    Args:
        store: where they lie.
        kms: holds the tenants' KEKs; several by name, where tenants have KMSs of their own.
        clock: for commit times, and for ``time``, which nobody sets ahead.
        failpoint: called with the name of each step of a commit (``staging.COMMIT_STEPS``) when it is done.
        entropy: source of DEKs and nonces; see Entropy before giving another one.
        keep_seconds: for how long DEKs are kept, and syncs that run go on without the KMS.
    """

    def __init__(
        self,
        store: Store,
        kms: Kms | KmsDirectory,
        clock: Clock,
        failpoint: Callable[[str], None] = _no_failpoint,
        entropy: Entropy = os.urandom,
        *,
        keep_seconds: float = KEEP_SECONDS,
    ) -> None:
        self._store = store
        self.time = TrustedTime(store, clock, lambda: points.newest_time(store))
        self._failpoint = failpoint
        self._keyring = Keyring(store, kms, entropy, clock, keep_seconds)
        self.syncs = Syncs(store, self._keyring, self.time, failpoint, entropy)
        """Those under way."""

    @property
    def store(self) -> Store:
        """Where all of it lies."""
        return self._store

    @property
    def keyring(self) -> Keyring:
        """Its keys, for what changes them."""
        return self._keyring

    def require_key(self, tenant: TenantId) -> str:
        """The id of the tenant's KEK, Active now by the KMS's own word; made on the tenant's first use.

        Raises:
            KeyNotUsableError: it is in another state.
            KmsUnavailableError: the KMS does not answer.
        """
        return self._keyring.require(tenant)

    def still(self, tenant: TenantId) -> None:
        """Return while a sync of the tenant's that runs may go on; see Keyring.still."""
        self._keyring.still(tenant)

    def wipe_old_keys(self) -> None:
        """Let go of DEKs whose time is over; call it every few seconds."""
        self._keyring.cache.drop_old()

    def begins_chain(self, tenant: TenantId, replica: ReplicaId) -> bool:
        """Whether the next sync must send every disk in full: a DEK was rotated. Raises DamagedError."""
        newest = self.newest(tenant, replica)
        return newest is not None and bool(begin.rotated(newest, self._keyring.newest_epochs(tenant, replica)))

    def choose_key(self, tenant: TenantId, kms: str | None, kek_id: str | None) -> str:
        """Lay down where a tenant's keys lie; see Keyring.choose."""
        return self._keyring.keks.choose(tenant, kms, kek_id)

    def kms_of(self, tenant: TenantId) -> str | None:
        """Name of the KMS that holds a tenant's keys; None for the default one. Raises DamagedError."""
        chosen = self._keyring.keks.chosen(tenant)
        return None if chosen is None else chosen.kms

    def tenants(self) -> tuple[TenantId, ...]:
        """Tenants that have a folder, sorted."""
        return tuple(names.parsed(self._store.names(names.TENANTS), parse_tenant))

    def replicas(self, tenant: TenantId) -> tuple[ReplicaId, ...]:
        """A tenant's replicas, sorted; those without a point included."""
        return self._keyring.files.replicas(tenant)

    def point_numbers(self, tenant: TenantId, replica: ReplicaId) -> tuple[PointNumber, ...]:
        """Numbers of the committed points that are kept, rising, without reading them."""
        return points.numbers(self._store, tenant, replica)

    def dropped_numbers(self, tenant: TenantId, replica: ReplicaId) -> tuple[PointNumber, ...]:
        """Numbers of the points that were dropped, rising, whether anything is left of them or not."""
        kept = set(self.point_numbers(tenant, replica))
        there = points.folders(self._store, tenant, replica)
        return tuple(sorted({*there, *points.recorded(self._store, tenant, replica)} - kept))

    def points(self, tenant: TenantId, replica: ReplicaId) -> tuple[PointRecord, ...]:
        """The committed points, rising; empty when there is no such replica.

        Raises:
            DamagedError: a record is not what was written.
        """
        return tuple(self.point(tenant, replica, number) for number in self.point_numbers(tenant, replica))

    def point(self, tenant: TenantId, replica: ReplicaId, number: PointNumber) -> PointRecord:
        """One point that is kept. Raises NotFoundError, DamagedError."""
        return points.read_kept(self._store, tenant, replica, number)

    def newest(self, tenant: TenantId, replica: ReplicaId) -> PointRecord | None:
        """The newest committed point."""
        return points.newest(self._store, tenant, replica)

    def stored_bytes(self, tenant: TenantId, replica: ReplicaId, number: PointNumber) -> int:
        """Bytes that a point's files take, and those of the dropped points right below it."""
        return points.stored_bytes(self._store, tenant, replica, number)

    def every_stored_bytes(self, tenant: TenantId, replica: ReplicaId) -> dict[PointNumber, int]:
        """The same of every kept point, for who wants them all."""
        return points.every_stored_bytes(self._store, tenant, replica)

    def drop(self, tenant: TenantId, replica: ReplicaId, point: PointNumber, reason: str) -> None:
        """Drop a point for good; its space comes back with ``reclaim``. See ``dropped.drop``.

        Raises:
            NotFoundError: there is no such point.
            PreconditionError: it is the newest, or the tenant is being erased.
            BusyError: a point is just being made.
        """
        dropped.drop(self._store, self.time.now(), self._failpoint, tenant, replica, point, reason)

    def reclaim(self, tenant: TenantId, replica: ReplicaId, progress: Progress = _no_progress) -> Reclaimed:
        """Give back the space of dropped points, as far as it is worth it; no key is used. See ``Reclaimer.run``."""
        return Reclaimer(self._store, self._failpoint, tenant, replica).run(progress)

    def settle(self, tenant: TenantId, replica: ReplicaId) -> None:
        """Finish what a crash cut short of a drop or a merge. Raises BusyError, DamagedError, PreconditionError."""
        Reclaimer(self._store, self._failpoint, tenant, replica).settle()

    def manifest(
        self,
        tenant: TenantId,
        replica: ReplicaId,
        disk: DiskKey,
        ranges: Sequence[tuple[int, int]] | None = None,
        point: PointNumber | None = None,
    ) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.uint8]]]:
        """Grains that a point holds of a disk, its bases included, with their digests; rising, some at a time.

        Args:
            tenant: owner of the replica.
            replica: which VM.
            disk: which disk.
            ranges: pairs of first grain and count, rising and disjoint; None for all.
            point: default: the newest point that has the disk; nothing when there is none.

        Yields:
            indices (n,), digests (n, 16). A grain that never comes is a hole and reads as zeros.
        """
        if point is None:
            newest = next(
                (record for record in points.newest_first(self._store, tenant, replica) if record.disk(disk)), None
            )
            if newest is None:
                return
            point = newest.number
        with self.chain(tenant, replica, disk, point) as chain:
            grains = grain_count(chain.capacity_bytes)
            with chain.damage_named():
                found = (
                    windows(chain.manifests, 0, grains) if ranges is None else within(chain.manifests, ranges, grains)
                )
                for window in found:
                    (places,) = np.nonzero(window.layers != HOLE)
                    if len(places):
                        yield (places + window.first).astype(np.uint32), window.digests[places]

    def chain(self, tenant: TenantId, replica: ReplicaId, disk: DiskKey, point: PointNumber) -> Chain:
        """A disk at a point with all points below that it stands on, open; the caller closes it.

        Raises:
            NotFoundError: the point does not exist, or has no such disk.
            KeyNotUsableError, KmsUnavailableError, DamagedError: see Keyring and Chain.
        """
        record = self.point(tenant, replica, point)
        if record.disk(disk) is None:
            raise NotFoundError(
                f"point {point} has no disk {disk}",
                subject=f"disk {disk}",
                next_step="list the point's disks with target-appliance points",
            )
        return Chain(self._store, self._keyring, record, disk)

    def view(self, tenant: TenantId, replica: ReplicaId, disk: DiskKey, point: PointNumber) -> DiskView:
        """The content of a disk at a point, to read; the caller closes it. Raises what ``chain`` raises."""
        return DiskView(self.chain(tenant, replica, disk, point))

    def verify(
        self,
        tenant: TenantId,
        replica: ReplicaId,
        *,
        with_key: bool,
        point: PointNumber | None = None,
        progress: Progress = _no_progress,
        committed: Collection[PointNumber] = (),
    ) -> Report:
        """Look for damage in one point and all it stands on, or in every point; see ``verify.verify``.

        Raises:
            NotFoundError: there is no such replica or point.
            KeyNotUsableError, KmsUnavailableError: ``with_key``, and the key cannot be had.
        """
        return verify(
            self._store,
            self._keyring,
            tenant,
            replica,
            with_key=with_key,
            point=point,
            progress=progress,
            committed=committed,
        )

    def export(
        self,
        tenant: TenantId,
        replica: ReplicaId,
        disk: DiskKey,
        point: PointNumber,
        *,
        form: Form,
        path: Path,
        progress: Progress = _no_progress,
    ) -> tuple[Path, ...]:
        """Write a disk at a point to a new file in the clear; returns the files made. See ``export.forms.export``.

        Raises:
            NotFoundError: no such point or disk, or the folder of ``path`` does not exist.
            AlreadyExistsError: ``path`` is there.
            DamagedError, KeyNotUsableError, KmsUnavailableError: it cannot be read.
            InvalidInputError, StoreError, StoreFullError: it cannot be written so.
        """
        with self.view(tenant, replica, disk, point) as view:
            return export(view, view.adapter, form, path, progress)

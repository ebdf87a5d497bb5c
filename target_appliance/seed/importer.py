"""Seals images as the first point of a replica, without change ids, so that the agent's next sync compares.

The same lease, staging and commit as a sync's: it becomes a point as a whole, or leaves nothing.
"""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from common.clock import Clock
from common.errors import NotFoundError, PreconditionError
from common.extent import Extent, round_to_grains, split
from common.grain import GRAIN_BYTES
from common.ids import AgentId, DiskKey, ReplicaId, TenantId, new_sync_id
from common.reduce import Reduced, reduce_grains
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.model import Lease
from target_appliance.recovery.findings import Progress
from target_appliance.recovery.ordered import ordered_map
from target_appliance.recovery.staging import StagedSync
from target_appliance.recovery.types import CommittedPoint, DiskSpec, SyncHeader, SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.seed.image import Image

_PIECE_BYTES: Final = 1 << 20
_LEASE_SECONDS: Final = 60.0
_RENEW_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Seed:
    """What becomes a point: which replica, and an open image for each disk; the images stay the caller's."""

    tenant: TenantId
    replica: ReplicaId
    vm_name: str
    images: Mapping[DiskKey, Image]


def import_seed(vault: Vault, catalog: Catalog, clock: Clock, seed: Seed, progress: Progress) -> CommittedPoint:
    """Make point 1 of the replica from the seed's images.

    Args:
        vault: where the replica goes.
        catalog: gives the lease, and notes the point.
        clock: for the lease.
        seed: see there.
        progress: bytes of the disks that were passed, holes included; they add up to the capacities.

    Raises:
        NotFoundError: there is no such tenant.
        PreconditionError: the replica has points already.
        BusyError: an agent, or another import, is writing the replica.
        FencedError: somebody took the replica over meanwhile.
        KeyNotUsableError, KmsUnavailableError: nothing is accepted.
        InvalidInputError: an image cannot be read; no point was made.
        StoreError, StoreFullError: the store's.
    """
    _require_new(vault, catalog, seed)
    vault.require_key(seed.tenant)
    sync = new_sync_id()
    # Nobody's agent: of two imports the later one is refused until the earlier one's lease lapses.
    agent = AgentId(str(uuid.uuid4()))
    alive = _Alive(catalog, clock, catalog.take_lease(seed.tenant, seed.replica, agent, sync, _LEASE_SECONDS))
    try:
        vault.syncs.sweep(seed.tenant, seed.replica)  # of an import that was killed
        staged = vault.syncs.begin(seed.tenant, seed.replica, sync, _header(seed))
        try:
            for key, image in seed.images.items():
                _seal(staged, key, image, progress, alive)
            catalog.check(alive.lease)
            committed = staged.commit()
        finally:
            staged.discard()
        catalog.record_point(vault.point(seed.tenant, seed.replica, committed.number), committed.stored_bytes)
    finally:
        catalog.release(alive.lease)
    return committed


def _require_new(vault: Vault, catalog: Catalog, seed: Seed) -> None:
    if seed.tenant not in catalog.tenants():
        raise NotFoundError(
            f"there is no tenant {seed.tenant}",
            subject=f"tenant {seed.tenant}",
            next_step="register it with target-appliance tenants add",
        )
    if found := vault.point_numbers(seed.tenant, seed.replica):
        raise PreconditionError(
            f"replica {seed.replica} has points already, the newest is {found[-1]}",
            subject=f"replica {seed.replica}",
            next_step="sync the VM: what is there needs no seed",
        )


def _header(seed: Seed) -> SyncHeader:
    disks = tuple(
        DiskSpec(
            key=key,
            uuid="",
            label=f"seed {image.path.name}"[:255],
            capacity_bytes=image.capacity_bytes,
            backing_path="",
            change_id="",
            encrypted=False,
            controller="",
            bus=0,
            unit=0,
            adapter=image.adapter,
            kind=SyncKind.FULL,
        )
        for key, image in seed.images.items()
    )
    taken = max(image.changed for image in seed.images.values())
    return SyncHeader(seed.vm_name, SyncKind.FULL, disks, 0, taken, "crash")


class _Alive:
    """Keeps the lease while there is work."""

    def __init__(self, catalog: Catalog, clock: Clock, lease: Lease) -> None:
        self._catalog = catalog
        self._clock = clock
        self._renewed = clock.monotonic()
        self.lease = lease

    def __call__(self) -> None:
        """A sign of life. Raises FencedError when the replica was taken over."""
        now = self._clock.monotonic()
        if now - self._renewed >= _RENEW_SECONDS:
            self.lease = self._catalog.renew(self.lease, _LEASE_SECONDS)
            self._renewed = now


def _seal(staged: StagedSync, key: DiskKey, image: Image, progress: Progress, alive: _Alive) -> None:
    writer = staged.disk(key)
    passed = 0
    for piece, reduced in ordered_map(lambda piece: _reduced(image, piece), _pieces(image)):
        writer.append(reduced.records)
        progress(piece.end - passed)
        passed = piece.end
        alive()
    writer.finish()
    progress(image.capacity_bytes - passed)
    alive()


def _pieces(image: Image) -> Iterator[Extent]:
    return split(round_to_grains(image.allocated(), image.capacity_bytes), _PIECE_BYTES)


def _reduced(image: Image, piece: Extent) -> Reduced:
    buffer = bytearray(-(-piece.length // GRAIN_BYTES) * GRAIN_BYTES)
    image.read_into(piece.offset, memoryview(buffer)[: piece.length])
    return reduce_grains(memoryview(buffer), piece.offset // GRAIN_BYTES, None)

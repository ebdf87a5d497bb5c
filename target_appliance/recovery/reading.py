"""Who reads a replica's points, and who moves their files: both at once never, and half a merge is never seen."""

from collections.abc import Iterator
from contextlib import contextmanager

from common.ids import ReplicaId, TenantId
from target_appliance.recovery import merge_moves, names
from target_appliance.store.port import Store


@contextmanager
def reading(store: Store, tenant: TenantId, replica: ReplicaId) -> Iterator[None]:
    """Keep the files of the replica's points where they are while the block runs.

    Raises:
        NotFoundError: there is no such replica.
        BusyError: they are being moved for too long.
        DamagedError: a merge that a crash cut short cannot be finished.
    """
    folder = names.replica_folder(tenant, replica)
    while True:
        with store.lock(f"{folder}/{names.READING_LOCK}", shared=True):
            if names.MERGING not in store.names(folder):
                yield
                return
        # Whoever decided it died: a merge that is under way is held alone.
        with alone(store, tenant, replica):
            merge_moves.finish(store, folder)


@contextmanager
def alone(store: Store, tenant: TenantId, replica: ReplicaId, seconds: float | None = None) -> Iterator[None]:
    """Let nobody read the replica's points while the block runs. Raises BusyError, NotFoundError."""
    folder = names.replica_folder(tenant, replica)
    with store.lock(f"{folder}/{names.READING_LOCK}", seconds=seconds):
        yield

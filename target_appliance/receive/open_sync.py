"""Syncs that are open in this process: who may write them, until when, and what they have staged.

The lease in the catalog decides who may write a replica; what lives here is what cannot live elsewhere: open files.
Losing it (a crash) costs the sync, never a point.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from common.clock import Clock
from common.errors import FencedError, NotFoundError, PreconditionError, ProtocolError
from common.ids import DiskKey, ReplicaId, SyncId, TenantId
from target_appliance.catalog.model import Lease
from target_appliance.identity.authn import Identity
from target_appliance.receive.allowance import Share
from target_appliance.receive.claim import Claim
from target_appliance.recovery.staging import StagedSync
from target_appliance.recovery.types import DiskProgress

LEASE_SECONDS: Final = 60.0
"""Silence after which another agent may take the replica."""

_RENEW_SECONDS: Final = 10.0
"""Between two writes of a lease's new end: every frame is a sign of life, the catalog need not hear of each."""


@dataclass
class OpenSync:
    """One sync under way."""

    sync: SyncId
    owner: Identity
    replica: ReplicaId
    vm_name: str
    staged: StagedSync
    lease: Lease
    share: Share
    """Of what its tenant may take."""
    renewed: float
    """Monotonic time of the last renewal."""
    heard: float
    """Monotonic time of the last sign of life."""
    writing: dict[DiskKey, Claim] = field(default_factory=dict)
    """By disk the stream that writes it."""
    finished: set[DiskKey] = field(default_factory=set)
    spoiled: set[DiskKey] = field(default_factory=set)
    """Disks whose stream broke a rule: they can never be complete."""
    over: str = ""
    """Why nothing more is accepted; empty while it is open."""
    committing: bool = False
    parked: bool = False
    """Its agent is silent, its lease has lapsed, and nobody wanted the replica since: it may go on still."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def streams(self) -> tuple[Any, ...]:
        """The calls that write it, for telling that they are alive though silent."""
        return tuple(claim.stream for claim in tuple(self.writing.values()))

    def claim(self, disk: DiskKey, stream: Any) -> Claim:
        """A stream starts to write ``disk``: one at a time, and none when it is complete."""
        with self.lock:
            self.require_open()
            if disk not in self.staged.disks:
                raise ProtocolError(
                    f"disk {disk} is not part of the sync", subject=f"disk {disk}", next_step="sync again"
                )
            if disk in self.writing or disk in self.finished or disk in self.spoiled:
                raise ProtocolError(f"disk {disk} is written twice", subject=f"disk {disk}", next_step="sync again")
            claim = self.writing[disk] = Claim(disk, stream, self.staged.disk(disk))
            return claim

    def settle(self, claim: Claim) -> None:
        """The claim's disk is complete and durable."""
        with self.lock:
            self._let_go(claim)
            self.finished.add(claim.disk)

    def rest(self, claim: Claim) -> None:
        """The network ended a stream: its disk waits for the next one, without files or buffers.

        Raises:
            StoreError, StoreFullError: what was appended cannot be made durable.
        """
        claim.rest()
        with self.lock:
            self._let_go(claim)

    def spoil(self, claim: Claim) -> None:
        """A stream broke a rule: its disk can never be complete, so its files need not wait for the sync's end."""
        with self.lock:
            if claim.revoked:
                return
            self._let_go(claim)
            self.spoiled.add(claim.disk)
        claim.spoil()

    def resume(self) -> tuple[DiskProgress, ...]:
        """End all streams and tell how far each disk is.

        Raises:
            FencedError: the sync is over.
            PreconditionError: a disk is spoiled.
            TargetUnavailableError: the store is busy with a write of one of the streams; ask again.
            StoreError, StoreFullError: what arrived cannot be made durable.
        """
        for claim in tuple(self.writing.values()):
            claim.revoke()
        with self.lock:
            self.require_open()
            if self.spoiled:
                raise PreconditionError(
                    f"disk {min(self.spoiled)} can never be complete: its stream broke a rule, or the store failed",
                    subject=f"sync {self.sync}",
                    next_step="begin a new sync",
                )
            self.writing.clear()
            found = self.staged.progress()
            self.finished.update(one.disk for one in found if one.finished)
            return found

    def park(self) -> None:
        """Hold no files and no buffers until somebody goes on.

        Raises:
            TargetUnavailableError: the store is busy with a write of one of the streams.
            StoreError, StoreFullError: what arrived cannot be made durable.
        """
        for claim in tuple(self.writing.values()):
            claim.revoke()
        with self.lock:
            self.writing.clear()
            self.staged.rest()
            self.parked = True

    def _let_go(self, claim: Claim) -> None:
        """The call too: gRPC counts one that is kept against its connection."""
        if self.writing.get(claim.disk) is claim:
            del self.writing[claim.disk]

    def require_open(self) -> None:
        """Raises FencedError when the sync is over."""
        if self.over:
            raise FencedError(f"the sync is over: {self.over}", subject=f"sync {self.sync}", next_step="sync again")

    def close_for_commit(self) -> None:
        """No more writes; raises PreconditionError while a disk is missing."""
        with self.lock:
            self.require_open()
            missing = sorted(set(self.staged.disks) - self.finished)
            if missing:
                raise PreconditionError(
                    f"disk {missing[0]} is not complete",
                    subject=f"sync {self.sync}",
                    next_step="send every disk before the commit",
                )
            self.over = "it is being committed"
            self.committing = True


def no_such_sync(sync: SyncId) -> NotFoundError:
    """The one answer for a sync that is none, or another's."""
    return NotFoundError("no such sync is open", subject=f"sync {sync}", next_step="begin a new sync")


class OpenSyncs:
    """All of them, by id."""

    def __init__(self, clock: Clock, renew: Callable[[Lease, float], Lease]) -> None:
        self._clock = clock
        self._renew = renew
        self._lock = threading.Lock()
        self._by_id: dict[SyncId, OpenSync] = {}

    def add(self, entry: OpenSync) -> list[OpenSync]:
        """Open ``entry``; returns the ones of the same replica that it supersedes, which the caller ends."""
        with self._lock:
            older = [
                other
                for other in self._by_id.values()
                if (other.owner.tenant, other.replica) == (entry.owner.tenant, entry.replica)
            ]
            self._by_id[entry.sync] = entry
        return older

    def get(self, owner: Identity, sync: SyncId) -> OpenSync:
        """The caller's sync, which is given a sign of life.

        Raises:
            NotFoundError: there is none, or it is another's: the answers are the same.
            FencedError: its lease was taken over.
        """
        entry = self.find(owner, sync)
        if entry is None:
            raise no_such_sync(sync)
        self.touch(entry)
        return entry

    def find(self, owner: Identity, sync: SyncId) -> OpenSync | None:
        """The caller's sync, over or not; None when there is none, or it is another's."""
        with self._lock:
            entry = self._by_id.get(sync)
        if entry is None or (entry.owner.tenant, entry.owner.agent) != (owner.tenant, owner.agent):
            return None
        return entry

    def writes(self, tenant: TenantId, replica: ReplicaId) -> bool:
        """Whether a sync of the replica is open."""
        with self._lock:
            return any((one.owner.tenant, one.replica) == (tenant, replica) for one in self._by_id.values())

    def touch(self, entry: OpenSync) -> None:
        """A sign of life; now and then it renews the lease in the catalog.

        Raises:
            FencedError: the lease was taken over, or the sync is over.
        """
        entry.require_open()
        now = self._clock.monotonic()
        entry.heard = now
        entry.parked = False
        if now - entry.renewed < _RENEW_SECONDS:
            return
        with entry.lock:
            if now - entry.renewed >= _RENEW_SECONDS:
                entry.lease = self._renew(entry.lease, LEASE_SECONDS)
                entry.renewed = now

    def remove(self, entry: OpenSync, why: str) -> bool:
        """End the bookkeeping of ``entry``; False when somebody else did already."""
        with self._lock:
            entry.over = entry.over or why
            removed = self._by_id.pop(entry.sync, None) is not None
        entry.share.release()
        return removed

    def silent(self) -> list[OpenSync]:
        """Those whose lease has lapsed, parked or not: no sign of life for LEASE_SECONDS; the longest silent first."""
        limit = self._clock.monotonic() - LEASE_SECONDS
        with self._lock:
            found = [entry for entry in self._by_id.values() if entry.heard < limit and not entry.committing]
        return sorted(found, key=lambda entry: entry.heard)

    def all(self) -> list[OpenSync]:
        """Every open sync."""
        with self._lock:
            return list(self._by_id.values())

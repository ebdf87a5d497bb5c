"""What each tenant may take: its limits, what it has, and what its open syncs add."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from common.bucket import SLICE_SECONDS, Bucket
from common.clock import Clock
from common.errors import LimitExceededError
from common.ids import ReplicaId, TenantId
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.model import TenantLimits, Usage

FRESH_SECONDS: Final = 5.0
"""How long limits and usage are remembered while streams run; each sync that begins reads them anew."""


@dataclass(slots=True)
class _Tenant:
    limits: TenantLimits
    usage: Usage
    read: float
    """Monotonic time; what is remembered is read again FRESH_SECONDS later."""
    open: Counter[ReplicaId] = field(default_factory=Counter)
    """Syncs under way."""
    staged_bytes: int = 0
    bucket: Bucket = field(default_factory=Bucket)


class Allowance:
    """All tenants'. Methods may be called from any thread.

    Each may raise StoreError, and NotFoundError for a tenant that is none.
    """

    def __init__(self, catalog: Catalog, clock: Clock) -> None:
        self._catalog = catalog
        self._clock = clock
        self._lock = threading.Lock()
        self._tenants: dict[TenantId, _Tenant] = {}

    def streams(self, tenant: TenantId, most: int) -> int:
        """Streams that the tenant may have open, ``most`` at most."""
        limit = self._fresh(tenant).limits.max_streams
        return most if limit is None else min(limit, most)

    def begin(self, tenant: TenantId, replica: ReplicaId) -> "Share":
        """What a sync of the replica will take; to be released when it is over.

        Raises:
            LimitExceededError: it would be one replica too many, or the quota is used up.
        """
        known = self._read(tenant)
        with self._lock:
            held = known.usage.replicas | {one for one, count in known.open.items() if count}
            most = known.limits.max_vms
            if most is not None and replica not in held and len(held) >= most:
                raise LimitExceededError(
                    f"tenant {tenant} has {len(held)} replicas, and may have {most}",
                    subject=f"tenant {tenant}",
                    next_step="ask the target's operator to allow more, or protect fewer VMs",
                )
            _require_room(tenant, known, 0)
            known.open[replica] += 1
        return Share(self, tenant, replica)

    def add(self, tenant: TenantId, size: int) -> None:
        """Count ``size`` bytes of an open sync. Raises LimitExceededError: the quota is used up; nothing is counted."""
        known = self._fresh(tenant)
        with self._lock:
            _require_room(tenant, known, size)
            known.staged_bytes += size

    def end(self, tenant: TenantId, replica: ReplicaId, size: int) -> None:
        """A sync that added ``size`` bytes in all is over: the catalog knows what became of them."""
        with self._lock:
            known = self._tenants[tenant]
            known.open[replica] -= 1
            known.staged_bytes -= size
            known.read = -FRESH_SECONDS

    def pace(self, tenant: TenantId, size: int, waiting: Callable[[], None]) -> None:
        """Return when ``size`` more bytes of the tenant may be taken; ``waiting`` is told again and again until then.

        Whatever ``waiting`` raises ends the wait.
        """
        while wait := self._take(tenant, size):
            waiting()
            self._clock.sleep(min(wait, SLICE_SECONDS))

    def _take(self, tenant: TenantId, size: int) -> float:
        known = self._fresh(tenant)
        with self._lock:
            return known.bucket.take(size, self._clock.monotonic(), known.limits.bandwidth_bytes)

    def _fresh(self, tenant: TenantId) -> _Tenant:
        now = self._clock.monotonic()
        with self._lock:
            known = self._tenants.get(tenant)
            if known is not None and now - known.read < FRESH_SECONDS:
                return known
        return self._read(tenant)

    def _read(self, tenant: TenantId) -> _Tenant:
        now = self._clock.monotonic()
        limits, usage = self._catalog.tenant(tenant).limits, self._catalog.usage(tenant)
        with self._lock:
            known = self._tenants.setdefault(tenant, _Tenant(limits, usage, now))
            known.limits, known.usage, known.read = limits, usage, now
            return known


class Share:
    """What one sync takes of its tenant's allowance."""

    def __init__(self, allowance: Allowance, tenant: TenantId, replica: ReplicaId) -> None:
        self._allowance = allowance
        self._tenant = tenant
        self._replica = replica
        self._lock = threading.Lock()
        self._bytes = 0
        self._over = False

    def add(self, size: int, waiting: Callable[[], None]) -> None:
        """Return when ``size`` more bytes may be stored, which may be after a while; see Allowance.pace.

        Raises:
            LimitExceededError: the quota is used up.
        """
        self._allowance.pace(self._tenant, size, waiting)
        with self._lock:
            if not self._over:
                self._allowance.add(self._tenant, size)
                self._bytes += size

    def release(self) -> None:
        """The sync is over; harmless the second time."""
        with self._lock:
            if not self._over:
                self._over = True
                self._allowance.end(self._tenant, self._replica, self._bytes)


def _require_room(tenant: TenantId, known: _Tenant, size: int) -> None:
    quota = known.limits.quota_bytes
    if quota is not None and known.usage.stored_bytes + known.staged_bytes + size > quota:
        raise LimitExceededError(
            f"tenant {tenant} has used up its quota of {quota >> 20} MiB",
            subject=f"tenant {tenant}",
            next_step="ask the target's operator for a larger quota; no committed point was changed",
        )

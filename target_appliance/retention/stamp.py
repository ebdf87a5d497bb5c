"""What a point's record says of time: when it was committed, from when retention counts, until when it is locked."""

from dataclasses import dataclass
from typing import Final

from common.ids import TenantId
from target_appliance.retention.clock import TrustedTime
from target_appliance.retention.settings import of_tenant
from target_appliance.store.port import Store

_SAME: Final = 60
"""Seconds: NTP corrects steps of that size, and they need not stand in records."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """Seconds since 1970-01-01 UTC."""

    commit_time: int
    """By the machine's clock."""
    counted_time: int | None = None
    """By trusted time; None when that is the same within a minute."""
    locked_until: int | None = None
    """By trusted time; None for no lock."""


def stamp(store: Store, time: TrustedTime, tenant: TenantId) -> Stamp:
    """For a point that is committed now. Raises DamagedError: nobody can say for how long it must be locked."""
    days = of_tenant(store, tenant).lock_days
    commit, counted = time.wall(), time.now()
    same = abs(commit - counted) <= _SAME
    return Stamp(commit, None if same else counted, counted + days * 86400 if days else None)

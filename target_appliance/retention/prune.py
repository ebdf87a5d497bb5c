"""Drops what no rule keeps. Each drop is told to the audit log before it is done and after; untold, nothing is done.

What is locked or held is none of it: the plan keeps it, and ``drop_planned`` refuses it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from common.errors import KeysapartError
from common.ids import ReplicaId, TenantId
from target_appliance.audit.event import BEGUN, OK, Event, Fact, What, Who
from target_appliance.catalog.catalog import Catalog
from target_appliance.recovery.vault import Vault
from target_appliance.retention.drop import drop_planned
from target_appliance.retention.plan import Plan, plan
from target_appliance.retention.rules import Verdict

MOST_AT_ONCE: Final = 50
"""Points that are dropped under one lock: a sync of a new disk, and whoever changes the tenant's keys, wait for it."""
REST_SECONDS: Final = 0.2
"""Between two locks, for those who wait."""


def _no_rest(_seconds: float) -> bool:
    """Nobody waits, and nobody ends it."""
    return False


@dataclass(frozen=True, slots=True)
class Pruner:
    """Nothing of it is its own to close."""

    vault: Vault
    catalog: Catalog
    """Is told of what is gone."""
    tell: Callable[[Event], object]
    """Writes an event, or raises StoreError."""
    who: Who
    """Drops; for the log."""
    rest: Callable[[float], bool] = _no_rest
    """Waits so many seconds; true when nothing more is to be dropped, because the process ends."""

    def apply(self, tenant: TenantId, replica: ReplicaId) -> tuple[Verdict, ...]:
        """Drop what no rule keeps of a replica; the verdicts on what went, rising by number.

        Raises:
            DamagedError: the settings cannot be read; nothing was dropped.
            BusyError: somebody else changes the tenant's settings or keys, or a point is just being made.
            PreconditionError: the tenant is being erased.
            StoreError, StoreFullError: the store's, the catalog's, or the audit log's; what was dropped is dropped.
        """
        gone: list[Verdict] = []
        try:
            while self._turn(tenant, replica, gone) and not self.rest(REST_SECONDS):
                pass
        finally:
            if gone:
                self.catalog.follow(self.vault, tenant, replica)
        return tuple(gone)

    def _turn(self, tenant: TenantId, replica: ReplicaId, gone: list[Verdict]) -> bool:
        """Drop as many as may be at once; whether there are more."""
        with self.vault.keyring.files.locked(tenant):  # a hold is placed before this or after it
            planned = plan(self.vault, tenant, replica)
            for verdict in planned.drops[:MOST_AT_ONCE]:
                if self.rest(0):
                    return False
                self._drop(planned, verdict)
                gone.append(verdict)
        return len(planned.drops) > MOST_AT_ONCE

    def _drop(self, planned: Plan, verdict: Verdict) -> None:
        why = "; ".join(verdict.reasons)
        facts: dict[str, Fact] = {"point": verdict.number, "why": why}
        who, about = replace(self.who, tenant=planned.tenant), f"replica {planned.replica}"
        event = Event(What.POINT_DROPPED, who, about, BEGUN, facts)
        self.tell(event)
        try:
            drop_planned(self.vault, planned, verdict, why)
        except KeysapartError as error:
            self.tell(replace(event, outcome=error.reason))
            raise
        self.tell(replace(event, outcome=OK))

"""Drops what no rule keeps. Each drop is told to the audit log before it is done and after; untold, nothing is done.

What is locked or held is none of it: the plan keeps it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from common.errors import KeysapartError
from common.ids import ReplicaId, TenantId
from target_appliance.audit.event import BEGUN, OK, Event, Fact, What, Who
from target_appliance.catalog.catalog import Catalog
from target_appliance.recovery.vault import Vault
from target_appliance.retention.plan import plan
from target_appliance.retention.rules import Verdict


@dataclass(frozen=True, slots=True)
class Pruner:
    """Nothing of it is its own to close."""

    vault: Vault
    catalog: Catalog
    """Is told of what is gone."""
    tell: Callable[[Event], None]
    """Writes an event, or raises StoreError."""
    who: Who
    """Drops; for the log."""

    def apply(self, tenant: TenantId, replica: ReplicaId) -> tuple[Verdict, ...]:
        """Drop what no rule keeps of a replica; the verdicts on what went, rising by number.

        Raises:
            DamagedError: the settings cannot be read; nothing was dropped.
            BusyError: somebody else changes the tenant's settings or keys, or a point is just being made.
            PreconditionError: the tenant is being erased.
            StoreError, StoreFullError: the store's, the catalog's, or the audit log's; what was dropped is dropped.
        """
        gone: list[Verdict] = []
        with self.vault.keyring.files.locked(tenant):  # a hold is placed before this or after it
            try:
                for verdict in plan(self.vault, tenant, replica).drops:
                    self._drop(tenant, replica, verdict)
                    gone.append(verdict)
            finally:
                if gone:
                    self.catalog.follow(self.vault, tenant, replica)
        return tuple(gone)

    def _drop(self, tenant: TenantId, replica: ReplicaId, verdict: Verdict) -> None:
        why = "; ".join(verdict.reasons)
        facts: dict[str, Fact] = {"point": verdict.number, "why": why}
        event = Event(What.POINT_DROPPED, replace(self.who, tenant=tenant), f"replica {replica}", BEGUN, facts)
        self.tell(event)
        try:
            self.vault.drop(tenant, replica, verdict.number, why)
        except KeysapartError as error:
            self.tell(replace(event, outcome=error.reason))
            raise
        self.tell(replace(event, outcome=OK))

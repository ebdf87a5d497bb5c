"""What the serving process does of itself for retention: keeps trusted time, and once an hour applies the rules."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from common import log
from common.clock import Clock
from common.errors import KeysapartError
from common.ids import ReplicaId, TenantId
from target_appliance.recovery.vault import Vault
from target_appliance.retention.plan import Plan, plan
from target_appliance.retention.prune import Pruner

_log = log.get("retention")

_EVERY_SECONDS: Final = 3600.0
_TICK_SECONDS: Final = 5.0
_LET_GO_SECONDS: Final = 60.0
MANY: Final = 400
"""Points of a replica within a day: one every four minutes."""
MANY_EMPTY: Final = 200
"""Points of a replica within a day that hold nothing; an idle VM with an RPO of a quarter of an hour has 96."""

Key = tuple[TenantId, ReplicaId]


@dataclass(frozen=True, slots=True)
class Seen:
    """A replica at the last look."""

    points_last_day: int
    empty_points_last_day: int
    droppable: int
    """Points that no rule kept."""


class Steward:
    """``tick`` is called by one thread; ``seen`` may be read by others.

    Args:
        vault: where points lie.
        pruner: drops what no rule keeps, and knows when the process ends.
        clock: for when it is time.
    """

    def __init__(self, vault: Vault, pruner: Pruner, clock: Clock) -> None:
        self._vault = vault
        self._pruner = pruner
        self._clock = clock
        self._next = clock.monotonic()
        self._failing: set[Key] = set()
        self.seen: dict[Key, Seen] = {}
        """By replica; of those that are there."""

    def tick(self) -> None:
        """Do what is due; call it every few seconds. Never raises what is the store's or a replica's own trouble."""
        began = self._clock.monotonic()
        try:
            self._vault.time.save()
            if began < self._next:
                return
            keys = [(tenant, replica) for tenant in self._vault.tenants() for replica in self._vault.replicas(tenant)]
        except KeysapartError as error:
            _log.warning("retention cannot go on", cause=error.message, next_step=error.next_step)
            return
        self._next = began + _EVERY_SECONDS
        self.seen = {key: self.seen[key] for key in keys if key in self.seen}
        for key in keys:
            if self._pruner.rest(0):
                return
            self._look(key)

    def _look(self, key: Key) -> None:
        tenant, replica = key
        try:
            found = plan(self._vault, tenant, replica)
            self._tell(found)
            if found.drops:
                gone = self._pruner.apply(tenant, replica)
                _log.info("points dropped that no rule keeps", tenant=tenant, replica=replica, points=len(gone))
        except KeysapartError as error:
            if key not in self._failing:
                _log.warning("points of a replica are not dropped", tenant=tenant, replica=replica, cause=error.message)
            self._failing.add(key)
            return
        self._failing.discard(key)

    def _tell(self, found: Plan) -> None:
        points, empty = found.last_day
        if points >= MANY or empty >= MANY_EMPTY:
            _log.warning(
                "a replica gets points as if somebody flooded it",
                tenant=found.tenant,
                replica=found.replica,
                points_last_day=points,
                empty_points_last_day=empty,
                next_step="ask the tenant; if its agent's certificate was stolen, revoke that; check the rules",
            )
        self.seen[found.tenant, found.replica] = Seen(points, empty, len(found.drops))


@contextmanager
def retaining(vault: Vault, pruner: Pruner, clock: Clock, stopping: threading.Event) -> Iterator[Steward]:
    """A steward at work in a thread while the block runs: a thousand drops hold nobody up.

    ``stopping`` is what the pruner rests on, and is set when the block ends.
    """
    steward = Steward(vault, pruner, clock)
    thread = threading.Thread(target=_work, args=(steward, stopping), name="retention", daemon=True)
    thread.start()
    try:
        yield steward
    finally:
        stopping.set()
        thread.join(_LET_GO_SECONDS)


def _work(steward: Steward, stopping: threading.Event) -> None:
    while not stopping.wait(_TICK_SECONDS):
        try:
            steward.tick()
        except Exception:  # noqa: BLE001  a fault of ours: told and tried again, or nothing was dropped any more
            _log.exception("retention failed")

"""Space of dropped points given back in the background of the serving process, one replica after the other."""

import threading
from typing import Final

from common import log
from common.closing import Closing
from common.errors import KeysapartError
from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.catalog.catalog import Catalog
from target_appliance.recovery.vault import Vault

_log = log.get("reclaiming")

_EVERY_SECONDS: Final = 900.0
"""Between two rounds: the rule gives little back that is a quarter of an hour old."""
_LET_GO_SECONDS: Final = 60.0


class _StoppingError(Exception):
    """The process is to end; nothing of it is ever shown."""


class Reclaiming(Closing):
    """A thread that does rounds until it is closed; a merge that is cut by that is made anew at the next start."""

    def __init__(self, vault: Vault, catalog: Catalog, every_seconds: float = _EVERY_SECONDS) -> None:
        self._vault = vault
        self._catalog = catalog
        self._every = every_seconds
        self._stopping = threading.Event()
        self._seen: dict[tuple[TenantId, ReplicaId], tuple[PointNumber, ...]] = {}
        """Dropped points of replicas of which nothing was to be had: until there are others, nothing is."""
        self._thread = threading.Thread(target=self._work, name="reclaiming", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the round that runs."""
        self._stopping.set()
        self._thread.join(_LET_GO_SECONDS)

    def round(self) -> None:
        """Look at every replica once."""
        for tenant in self._vault.tenants():
            for replica in self._vault.replicas(tenant):
                if self._stopping.is_set():
                    return
                try:
                    self._reclaim(tenant, replica)
                except KeysapartError as error:
                    _log.warning("space was not reclaimed", tenant=tenant, replica=replica, cause=error.message)

    def _reclaim(self, tenant: TenantId, replica: ReplicaId) -> None:
        dropped = self._vault.dropped_numbers(tenant, replica)
        if not dropped or self._seen.get((tenant, replica)) == dropped:
            return
        done = self._vault.reclaim(tenant, replica, self._go_on)
        if done.put_off is None:
            self._seen[tenant, replica] = dropped
        if done.removed:
            self._catalog.follow(self._vault, tenant, replica)
            freed = done.freed
            _log.info("space reclaimed", tenant=tenant, replica=replica, points=len(done.removed), freed_bytes=freed)

    def _go_on(self, _bytes: int) -> None:
        if self._stopping.is_set():
            raise _StoppingError

    def _work(self) -> None:
        try:
            while not self._stopping.wait(self._every):
                self._safe_round()
        except _StoppingError:
            return

    def _safe_round(self) -> None:
        try:
            self.round()
        except KeysapartError as error:
            _log.warning("space was not reclaimed", cause=error.message)


def settle_all(vault: Vault) -> None:
    """Finish what a crash cut short of drops and merges; what cannot be finished is told, and holds nobody up."""
    for tenant in vault.tenants():
        for replica in vault.replicas(tenant):
            try:
                vault.settle(tenant, replica)
            except KeysapartError as error:
                _log.warning("a merge was not finished", tenant=tenant, replica=replica, cause=error.message)

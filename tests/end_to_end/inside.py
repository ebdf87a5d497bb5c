"""The appliance's own parts, opened in the test's process over a pair's store: many comparisons cost no process each.

It goes the way an operator's command goes (configuration, key server, store); there is no other door to a DEK.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.clock import SystemClock
from common.config import load
from common.ids import DiskKey, PointNumber, ReplicaId, TenantId, parse_replica, parse_tenant
from target_appliance.config import ApplianceConfig
from target_appliance.kms import registry
from target_appliance.recovery.export.forms import Form
from target_appliance.recovery.findings import Report
from target_appliance.recovery.keyring import Keyring
from target_appliance.recovery.vault import Vault
from target_appliance.store.posix import PosixStore
from tests.end_to_end.pair import TENANT, Pair


@dataclass(frozen=True)
class Inside:
    """One tenant's vault, with words of tests: replicas, disks and points as plain strings and numbers."""

    vault: Vault
    keyring: Keyring
    tenant: TenantId

    def export(self, replica: str, disk: int, point: int, form: str, path: Path) -> tuple[Path, ...]:
        """Write a disk at a point."""
        return self.vault.export(
            self.tenant, parse_replica(replica), DiskKey(disk), PointNumber(point), form=Form(form), path=path
        )

    def verify(self, replica: str, *, with_key: bool, point: int | None = None) -> Report:
        """Look for damage."""
        number = None if point is None else PointNumber(point)
        return self.vault.verify(self.tenant, parse_replica(replica), with_key=with_key, point=number)

    def dek(self, replica: str, disk: int) -> bytes:
        """A disk's data key, which only the second reader of the tests ever gets."""
        name: ReplicaId = parse_replica(replica)
        return self.keyring.open(self.tenant, name, DiskKey(disk), 1).value


@contextlib.contextmanager
def inside(pair: Pair) -> Iterator[Inside]:
    """Open a pair's vault for the length of the block."""
    config = load(pair.config, ApplianceConfig)
    with contextlib.ExitStack() as life:
        kms = registry.create(config.kms, SystemClock())
        life.callback(kms.close)
        store = PosixStore(config.store_dir)
        life.callback(store.close)
        yield Inside(Vault(store, kms, SystemClock()), Keyring(store, kms), parse_tenant(TENANT))

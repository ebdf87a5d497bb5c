"""What commands need of a stopped or running appliance's state: its vault and its catalog, opened beside the server."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from common.clock import SystemClock
from common.hardening import harden
from target_appliance.catalog.catalog import Catalog
from target_appliance.config import ApplianceConfig
from target_appliance.identity.authority import Authority
from target_appliance.kms import registry
from target_appliance.kms.lazy import LazyKms
from target_appliance.recovery.vault import Vault
from target_appliance.store.posix import PosixStore


@dataclass(frozen=True)
class AtRest:
    """Open; closed at the end of ``opened``'s block."""

    vault: Vault
    catalog: Catalog


@contextmanager
def opened(config: ApplianceConfig) -> Iterator[AtRest]:
    """The appliance's vault and catalog; the KMS is connected only when a key is needed.

    Raises:
        PreconditionError: there is no appliance yet; or a newer version wrote its catalog.
        KeysapartError: state cannot be opened.
    """
    clock = SystemClock()
    with ExitStack() as life:
        harden()
        Authority.open(config.authority_dir, config.trust_domain, clock)
        store = PosixStore(config.store_dir)
        life.callback(store.close)
        kms = LazyKms(lambda: registry.create(config.kms, clock))
        life.callback(kms.close)
        catalog = life.enter_context(Catalog.open(config.catalog, clock))
        yield AtRest(Vault(store, kms, clock), catalog)

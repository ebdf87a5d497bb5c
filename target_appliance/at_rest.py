"""What commands need of a stopped or running appliance's state: its vault and its catalog, opened beside the server."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from common.clock import SystemClock
from common.errors import InvalidInputError, NotFoundError
from common.hardening import harden
from common.ids import parse_tenant
from target_appliance.audit.commands import audit_log
from target_appliance.audit.keys import AuditedKms
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.model import ReplicaRow
from target_appliance.config import ApplianceConfig
from target_appliance.identity.authority import Authority
from target_appliance.kms import registry
from target_appliance.recovery.vault import Vault
from target_appliance.store.posix import PosixStore

_MOST_NAME = 1024
"""Characters of a VM's name that a sync may tell."""


@dataclass(frozen=True)
class AtRest:
    """Open; closed at the end of ``opened``'s block."""

    vault: Vault
    catalog: Catalog
    authority: Authority

    def find_replica(self, wanted: str, tenant: str | None) -> ReplicaRow:
        """The replica whose id, or whose VM's name, is ``wanted``.

        The store has the last word: after a crash it may hold what the catalog will only learn at the next start.

        Raises:
            InvalidInputError: ``tenant`` is no tenant's name; or ``wanted`` can be neither an id nor a VM's name.
            NotFoundError: there is none.
            PreconditionError: several VMs bear the name.
        """
        owner = None if tenant is None else parse_tenant(tenant)
        if not 0 < len(wanted) <= _MOST_NAME or not wanted.isprintable():
            raise InvalidInputError(
                f"{wanted[:80]!a} is neither a replica's id nor a VM's name",
                subject="replica",
                next_step="list them with target-appliance replicas",
            )
        try:
            return self.catalog.find_replica(wanted, owner)
        except NotFoundError:
            self.catalog.reconcile(self.vault)
            return self.catalog.find_replica(wanted, owner)


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
        authority = Authority.open(config.authority_dir, config.trust_domain, clock)
        store = PosixStore(config.store_dir)
        life.callback(store.close)
        log = audit_log(config)
        kms = registry.directory(config, clock, lazy=True).each(lambda one: AuditedKms(one, log))
        life.callback(kms.close)
        catalog = life.enter_context(Catalog.open(config.catalog, clock))
        vault = Vault(store, kms, clock, keep_seconds=config.keys.keep_minutes * 60)
        life.callback(vault.keyring.close)
        yield AtRest(vault, catalog, authority)

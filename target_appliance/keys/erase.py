"""``tenants erase``: a tenant's KEKs destroyed, then everything of the tenant's removed, and a signed receipt.

What is to go is noted in the store first, so that a run that was cut goes on, whatever it had removed already. The KEKs
go before anything else: from then on no copy of the store opens, whoever kept one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from common.clock import Clock
from common.errors import AlreadyExistsError, BusyError, KmsUnavailableError, NotFoundError
from common.ids import TenantId
from common.private_file import write_file
from target_appliance.admission import Admission
from target_appliance.identity.signing import Signer
from target_appliance.keys.rotate import require_own
from target_appliance.kms.port import GONE
from target_appliance.recovery import names, small_file
from target_appliance.recovery.key_files import ChosenKek
from target_appliance.recovery.vault import Vault
from target_appliance.retention.keeper import Keeper

RECEIPT: Final = "erasure-receipt"
"""Kind of the signed document."""
_PATIENCE_SECONDS: Final = 120.0
"""For syncs: their streams are cut within seconds, and their leases, which nobody renews then, last a minute."""

Waiting = Callable[[int], None]
"""Told once how many syncs are waited for."""


def _nobody_waits(_count: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Marked:
    """What is to go, as it was found at the beginning."""

    began: int
    keks: tuple[ChosenKek, ...]
    replicas: int
    points: int
    data_keys: int

    def members(self) -> dict[str, Any]:
        """For the file."""
        keks = [kek.members() for kek in self.keks]
        found = {"replicas": self.replicas, "points": self.points, "data_keys": self.data_keys}
        return {"began": self.began, "keks": keks, **found}


@dataclass(frozen=True, slots=True)
class Eraser:
    """Erases tenants. Nothing of it is the eraser's own to close."""

    vault: Vault
    admission: Admission
    signer: Signer
    clock: Clock

    def known(self, tenant: TenantId) -> bool:
        """Whether there is anything to erase, or to go on with."""
        return tenant in self.admission.catalog.tenants() or tenant in self.vault.tenants()

    def erase(self, tenant: TenantId, receipt: Path, waiting: Waiting = _nobody_waits) -> dict[str, Any]:
        """Erase a tenant and write the receipt, whose body is returned. May be repeated until it succeeds.

        Its syncs are over before anything goes: it is suspended, which cuts their streams, and their leases run out.
        One that is just becoming a point holds the erasure off for that moment, and later ones are refused.

        Raises:
            NotFoundError: there is no such tenant.
            AlreadyExistsError: ``receipt`` exists.
            PreconditionError: another tenant has a KEK of this one, or nothing shows that one is this tenant's.
            KmsUnavailableError: the KMS does not destroy a KEK; what it wraps stays, and the tenant is suspended.
            KeyNotUsableError: the configuration lacks the tenant's KMS.
            BusyError: syncs of the tenant's do not end; nothing was erased, and the tenant is suspended.
            PreconditionError: a point of the tenant's is locked still.
        """
        if receipt.exists():
            raise AlreadyExistsError(f"{receipt} exists", subject=f"file {receipt}", next_step="give another file")
        if not self.known(tenant):
            raise NotFoundError(f"there is no tenant {tenant}", subject=f"tenant {tenant}", next_step="tenants list")
        Keeper(self.vault).require_no_lock(tenant)
        if tenant in self.admission.catalog.tenants():
            self.admission.suspend(tenant)
            self._end_syncs(tenant, waiting)
        files = self.vault.keyring.files
        with files.locked(tenant):
            with files.points_locked(tenant):
                Keeper(self.vault).require_no_lock(tenant)  # once more: a sync may just have become a point
                marked = self._mark(tenant)
            for kek in marked.keks:
                self.vault.keyring.directory.of(kek.kms).destroy_kek(kek.kek_id)
            self._purge(tenant)
        rows = self.admission.forget(tenant)
        body = {
            "tenant": tenant,
            "began": marked.began,
            "ended": int(self.clock.now().timestamp()),
            "keks": [self._gone(kek) for kek in marked.keks],
            "replicas": marked.replicas,
            "points": marked.points,
            "data_keys": marked.data_keys,
            "catalog_rows": rows,
        }
        write_file(receipt, self.signer.sign(RECEIPT, body))
        self.vault.store.remove_tree(names.tenant_folder(tenant))
        return body

    def _end_syncs(self, tenant: TenantId, waiting: Waiting) -> None:
        """Return when no sync of the suspended tenant has a lease. Raises BusyError."""
        if left := self.admission.catalog.live_syncs(tenant):
            waiting(len(left))
        last = self.clock.monotonic() + _PATIENCE_SECONDS
        while left := self.admission.catalog.live_syncs(tenant):
            if self.clock.monotonic() >= last:
                raise BusyError(
                    f"{len(left)} syncs of tenant {tenant} do not end, so nothing was erased",
                    subject=f"tenant {tenant}",
                    next_step="wait for a seed that is imported, or stop the appliance; then run the command again",
                )
            self.clock.sleep(1.0)

    def _mark(self, tenant: TenantId) -> Marked:
        """Lay down what is to go, after which no sync of the tenant's becomes a point."""
        before = self._marked(tenant)
        marked = before or self._found(tenant)
        for kek in marked.keks:  # asked of an older mark too, which lies in the store like all the rest
            require_own(self.vault, tenant, kek)
        if before is None:
            small_file.replace(self.vault.store, names.tenant_folder(tenant), names.ERASE_FILE, marked.members())
        return marked

    def _marked(self, tenant: TenantId) -> Marked | None:
        try:
            found = small_file.read(self.vault.store, f"{names.tenant_folder(tenant)}/{names.ERASE_FILE}")
        except NotFoundError:
            return None
        keks = tuple(ChosenKek.parse(kek) for kek in found["keks"])
        return Marked(found["began"], keks, found["replicas"], found["points"], found["data_keys"])

    def _found(self, tenant: TenantId) -> Marked:
        keys = self.vault.keyring.files.tenant(tenant)
        under = self.vault.keyring.files.wrapped_under(tenant)
        keks = tuple(dict.fromkeys((*(() if keys is None else keys.all), *under)))
        replicas = self.vault.replicas(tenant)
        points = sum(len(self.vault.point_numbers(tenant, replica)) for replica in replicas)
        began = int(self.clock.now().timestamp())
        return Marked(began, keks, len(replicas), points, sum(under.values()))

    def _purge(self, tenant: TenantId) -> None:
        """Wrapped keys are overwritten, then all that was sealed goes, with the names that points hold in the clear."""
        for replica in self.vault.store.names(names.replicas_folder(tenant)):
            folder = f"{names.replicas_folder(tenant)}/{replica}"
            self.vault.store.shred(f"{folder}/{names.REPLICA_FILE}")
            self.vault.store.shred(f"{folder}/{names.REWRITE}/{names.REPLICA_FILE}")
        self.vault.store.remove_tree(names.replicas_folder(tenant))
        self.vault.store.shred(f"{names.tenant_folder(tenant)}/{names.REWRITE}/{names.TENANT_FILE}")
        self.vault.store.shred(f"{names.tenant_folder(tenant)}/{names.TENANT_FILE}")

    def _gone(self, kek: ChosenKek) -> dict[str, str]:
        kms = self.vault.keyring.directory.of(kek.kms)
        state = kms.state(kek.kek_id)
        if state not in GONE:
            raise KmsUnavailableError(
                f"key {kek.kek_id} is {state} at {kms.name} after it was destroyed",
                subject=f"kek {kek.kek_id}",
                next_step="ask the KMS's administrator, then run the command again",
            )
        return {"kms": kms.name, "kek": kek.kek_id, "state": state.value}

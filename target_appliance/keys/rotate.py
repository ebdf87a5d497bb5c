"""``keys rotate-kek``: a new KEK, then every wrapped DEK under it, replica by replica. No byte of a VMDK changes.

It may be killed at any moment and run again, beside an appliance that serves: tenant.json names the new KEK first, each
entry of a replica's file names its own, and each file is replaced whole under the tenant's lock.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from common.errors import PreconditionError
from common.ids import TenantId
from target_appliance.recovery.key_files import ChosenKek
from target_appliance.recovery.vault import Vault

Progress = Callable[[int, int], None]
"""Told how many replicas of how many are done."""


def _no_progress(_done: int, _all: int) -> None:
    """Nobody watches."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did."""

    tenant: TenantId
    kek: ChosenKek
    went_on: bool
    """With a rotation that was cut, so that no further KEK was made."""
    replicas: int
    wrapped: int
    """DEKs that were wrapped anew now."""
    retired: tuple[ChosenKek, ...]
    """KEKs under which nothing is wrapped any more, and that still exist."""
    destroyed: tuple[ChosenKek, ...]

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "tenant": self.tenant,
            "kek": self.kek.kek_id,
            "went_on": self.went_on,
            "replicas": self.replicas,
            "wrapped": self.wrapped,
            "retired": [kek.kek_id for kek in self.retired],
            "destroyed": [kek.kek_id for kek in self.destroyed],
        }


def rotate_kek(
    vault: Vault, tenant: TenantId, *, destroy_old: bool = False, progress: Progress = _no_progress
) -> Rotated:
    """Give a tenant a new KEK and wrap all its DEKs under it; goes on with a rotation that was cut.

    Raises:
        NotFoundError: the tenant has no key yet.
        KeyNotUsableError, KmsUnavailableError: the KMS does not do its part; run it again.
        PreconditionError: ``destroy_old``, and something still needs an old KEK.
        BusyError: another process has been changing the tenant's keys for long.
    """
    keyring = vault.keyring
    with keyring.files.locked(tenant):
        chosen = keyring.keks.chosen(tenant)
        # Under a key that may be another's nothing is wrapped, so that it would not go on.
        went_on = chosen is not None and unfinished(vault, tenant) and not keyring.proofs.doubted(tenant, chosen)
        if not went_on:
            keyring.keks.replace(tenant)
    replicas = vault.replicas(tenant)
    wrapped = 0
    for done, replica in enumerate(replicas, 1):
        wrapped += keyring.rewrap(tenant, replica)
        progress(done, len(replicas))
    destroyed = destroy_retired(vault, tenant) if destroy_old else ()
    keys = keyring.files.tenant(tenant)
    if keys is None:  # only if the file is lost meanwhile
        raise PreconditionError("tenant.json is gone", subject=f"tenant {tenant}", next_step="restore it")
    return Rotated(tenant, keys.chosen, went_on, len(replicas), wrapped, keys.retired, destroyed)


def unfinished(vault: Vault, tenant: TenantId) -> bool:
    """Whether a DEK of the tenant's is wrapped under another KEK than its present one."""
    return bool(set(vault.keyring.files.wrapped_under(tenant)) - {vault.keyring.keks.chosen(tenant)})


def destroy_retired(vault: Vault, tenant: TenantId) -> tuple[ChosenKek, ...]:
    """Destroy the KEKs that were the tenant's before; returns them. What was destroyed when it fails stays so.

    None when there are none; no KEK is made.

    Raises:
        PreconditionError: something is still wrapped under one, another tenant names it, or nothing shows that it was
            this tenant's.
        KmsUnavailableError: the KMS does not answer, or keeps one.
    """
    files = vault.keyring.files
    with files.locked(tenant):
        keys = files.tenant(tenant)
        if keys is None:
            return ()
        needed = files.wrapped_under(tenant)
        for kek in keys.retired:
            if kek in needed:
                raise PreconditionError(
                    f"{needed[kek]} data keys are still wrapped under key {kek.kek_id}, which is not destroyed",
                    subject=f"kek {kek.kek_id}",
                    next_step=f"run target-appliance keys rotate-kek {tenant} again",
                )
            require_own(vault, tenant, kek)
        for kek in keys.retired:
            vault.keyring.directory.of(kek.kms).destroy_kek(kek.kek_id)
            left = files.tenant(tenant) or keys
            files.put_tenant(tenant, replace(left, retired=tuple(one for one in left.retired if one != kek)))
        return keys.retired


def require_own(vault: Vault, tenant: TenantId, kek: ChosenKek) -> None:
    """Return if no other tenant names the KEK and it is shown to be this one's, or is not Active and cannot be asked.

    Raises:
        PreconditionError: it may be another's.
        KmsUnavailableError: the KMS does not say.
    """
    for other in vault.tenants():
        keys = vault.keyring.files.tenant(other)
        if other != tenant and keys is not None and kek in keys.all:
            raise PreconditionError(
                f"key {kek.kek_id} is tenant {other}'s too, so it is not destroyed",
                subject=f"kek {kek.kek_id}",
                next_step=f"run target-appliance keys rotate-kek {other} first",
            )
    if vault.keyring.proofs.doubted(tenant, kek):
        raise PreconditionError(
            f"nothing shows that key {kek.kek_id} is tenant {tenant}'s, so it is not destroyed",
            subject=f"kek {kek.kek_id}",
            next_step="if your records say that it is, destroy it at the KMS, then run the command again",
        )

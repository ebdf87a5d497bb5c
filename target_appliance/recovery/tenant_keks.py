"""Which KEK is a tenant's: chosen once, made on first use, replaced when it is rotated."""

import threading

from common.clock import Clock
from common.errors import AlreadyExistsError, KeyNotUsableError, NotFoundError
from common.ids import TenantId
from target_appliance.kms.directory import DEFAULT, KmsDirectory
from target_appliance.kms.trial import try_key
from target_appliance.recovery import names, small_file
from target_appliance.recovery.key_files import ChosenKek, KeyFiles, TenantKeys
from target_appliance.recovery.key_proof import Proofs
from target_appliance.store.port import Store


class TenantKeks:
    """The keyring's. Thread-safe."""

    def __init__(self, store: Store, files: KeyFiles, directory: KmsDirectory, proofs: Proofs, clock: Clock) -> None:
        self._store = store
        self._files = files
        self._directory = directory
        self._proofs = proofs
        self._clock = clock
        self._choosing = threading.Lock()

    def known_id(self, tenant: TenantId) -> str | None:
        """The id of the tenant's KEK, None before its first use. Raises DamagedError."""
        chosen = self.chosen(tenant)
        return None if chosen is None else chosen.kek_id

    def chosen(self, tenant: TenantId) -> ChosenKek | None:
        """The tenant's KEK and its KMS, None before its first use. Raises DamagedError."""
        keys = self._files.tenant(tenant)
        return None if keys is None else keys.chosen

    def choose(self, tenant: TenantId, kms: str | None, kek_id: str | None = None) -> str:
        """Lay down where a tenant's keys lie, before its first use; returns the KEK's id. The same again does no harm.

        Args:
            tenant: whose.
            kms: name of the KMS; None for the default one.
            kek_id: a key that is there already, Active and no other tenant's; None makes one.

        Raises:
            AlreadyExistsError: something else was chosen before, or the key is another tenant's.
            KeyNotUsableError: the KMS or the key cannot be used.
            KmsUnavailableError: the KMS does not answer, or does not do with the key what it must.
        """
        with self._choosing:
            if (before := self.chosen(tenant)) is not None:
                return _same(tenant, before, kms, kek_id)
            self._require_unused(tenant)
            server = self._directory.of(kms)
            if kek_id is not None:  # refused before anything of the tenant's is made
                self._require_alone(ChosenKek(kms, kek_id))
                try_key(server.name, kek_id, server.wrap, server.unwrap)
            with self._files.locked(tenant):
                if (before := self.chosen(tenant)) is not None:
                    return _same(tenant, before, kms, kek_id)
                return self._put(tenant, kms, kek_id or server.create_kek(tenant)).kek_id

    def replace(self, tenant: TenantId) -> ChosenKek:
        """Let a new KEK be the tenant's from now on; the one before is retired. The lock is the caller's.

        Killed in between, a key that nothing names is left at the KMS.

        Raises:
            NotFoundError: the tenant has none yet.
            KmsUnavailableError: none could be made.
        """
        keys = self._files.tenant(tenant)
        if keys is None:
            raise NotFoundError(
                f"tenant {tenant} has no key yet", subject=f"tenant {tenant}", next_step="its first sync makes one"
            )
        # What wraps a DEK is the tenant's to destroy, whatever the file names; what may be another's is not.
        named = dict.fromkeys((keys.chosen, *self._files.wrapped_under(tenant)))
        own = [kept for kek in named if (kept := self._proofs.kept(tenant, kek)) is not None]
        retired = (*(kek for kek in keys.retired if kek not in own), *own)
        return self._put(tenant, keys.chosen.kms, self._directory.of(keys.chosen.kms).create_kek(tenant), retired)

    def first(self, tenant: TenantId) -> ChosenKek:
        """The tenant's KEK, made where there is none. Raises as ``make``, and BusyError."""
        with self._files.locked(tenant):
            return self.make(tenant)

    def make(self, tenant: TenantId) -> ChosenKek:
        """The same, under the tenant's lock, which is the caller's.

        Raises:
            KeyNotUsableError: the tenant is being erased.
            DamagedError: it has replicas, so it had one.
            KmsUnavailableError: none could be made.
        """
        known = self.chosen(tenant)
        if known is not None:
            return known
        self._require_unused(tenant)
        if names.ERASE_FILE in self._store.names(names.tenant_folder(tenant)):
            raise KeyNotUsableError(
                f"tenant {tenant} is being erased", subject=f"tenant {tenant}", next_step="let tenants erase end first"
            )
        return self._put(tenant, DEFAULT, self._directory.default.create_kek(tenant))

    def _put(self, tenant: TenantId, kms: str | None, kek_id: str, retired: tuple[ChosenKek, ...] = ()) -> ChosenKek:
        chosen = self._proofs.make(tenant, kms, kek_id)
        self._files.put_tenant(tenant, TenantKeys(chosen, self._now(), 0, retired))
        return chosen

    def _require_unused(self, tenant: TenantId) -> None:
        if self._store.names(names.replicas_folder(tenant)):
            # Made anew, it would hide that the file was lost, and with it which key the replicas need.
            path = f"{names.tenant_folder(tenant)}/{names.TENANT_FILE}"
            raise small_file.damaged(path, "it is missing, but the tenant has replicas")

    def _require_alone(self, wanted: ChosenKek) -> None:
        for name in self._store.names(names.TENANTS):
            keys = self._files.tenant(TenantId(name))
            if keys is not None and wanted in keys.all:
                raise AlreadyExistsError(
                    f"key {wanted.kek_id} is tenant {name}'s, and tenants share no keys",
                    subject=f"kek {wanted.kek_id}",
                    next_step="choose a key that no other tenant uses, or let one be made",
                )

    def _now(self) -> int:
        return int(self._clock.now().timestamp())


def _same(tenant: TenantId, before: ChosenKek, kms: str | None, kek_id: str | None) -> str:
    """The KEK that was chosen before. Raises AlreadyExistsError when it is another one than is asked for."""
    if before.kms == kms and kek_id in (None, before.kek_id):
        return before.kek_id
    where = "the default KMS" if before.kms is None else f"the KMS {before.kms}"
    raise AlreadyExistsError(
        f"tenant {tenant} has key {before.kek_id} at {where} already",
        subject=f"tenant {tenant}",
        next_step="leave --kms and --kek out for a tenant that is registered",
    )

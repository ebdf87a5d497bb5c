"""What shows that a KEK is a tenant's: something that the KMS wrapped under it, bound to that tenant.

Who can write to the store can name any key in ``tenant.json``, but cannot make the KMS wrap: another tenant's key comes
with no proof, and is neither used nor destroyed for this tenant. A DEK of the tenant's under a KEK shows the same.
"""

import threading
from collections.abc import Iterator

from common.errors import KeyNotUsableError
from common.ids import TenantId
from target_appliance.kms.directory import KmsDirectory
from target_appliance.kms.port import KekState, WrappedKey
from target_appliance.recovery.key_files import ChosenKek, KeyFiles
from target_appliance.seal.keys import DEK_BYTES, proof_context, wrapping_context


class Proofs:
    """Makes proofs and checks them, each KEK's once in the life of this process. Thread-safe."""

    def __init__(self, directory: KmsDirectory, files: KeyFiles) -> None:
        self._directory = directory
        self._files = files
        self._lock = threading.Lock()
        self._shown: set[tuple[TenantId, ChosenKek]] = set()

    def make(self, tenant: TenantId, kms: str | None, kek_id: str) -> ChosenKek:
        """The KEK with its proof. Raises KeyNotUsableError, KmsUnavailableError."""
        proof = self._directory.of(kms).wrap(kek_id, bytes(DEK_BYTES), proof_context(tenant))
        kek = ChosenKek(kms, kek_id, proof)
        self._note(tenant, kek)
        return kek

    def shown(self, tenant: TenantId, kek: ChosenKek) -> bool:
        """Whether the KEK's proof, or a DEK under it, shows that it is the tenant's.

        Raises:
            KmsUnavailableError: the KMS does not say.
            DamagedError: the file of one of the tenant's replicas is not what was written.
        """
        with self._lock:
            if (tenant, kek) in self._shown:
                return True
        if not any(self._unwraps(kek, *proof) for proof in self._proofs(tenant, kek)):
            return False
        self._note(tenant, kek)
        return True

    def doubted(self, tenant: TenantId, kek: ChosenKek) -> bool:
        """Whether the KEK may be another tenant's: it is Active, and nothing shows whose. Others cannot be asked.

        Raises:
            KmsUnavailableError, DamagedError: as ``shown``.
        """
        return self._directory.of(kek.kms).state(kek.kek_id) is KekState.ACTIVE and not self.shown(tenant, kek)

    def kept(self, tenant: TenantId, kek: ChosenKek) -> ChosenKek | None:
        """The KEK, with a proof that outlasts what it wraps; None if it may be another tenant's.

        Raises:
            KeyNotUsableError, KmsUnavailableError, DamagedError: as ``shown`` and ``make``.
        """
        if self._directory.of(kek.kms).state(kek.kek_id) is not KekState.ACTIVE:
            return kek
        return self.make(tenant, kek.kms, kek.kek_id) if self.shown(tenant, kek) else None

    def require(self, tenant: TenantId, kek: ChosenKek) -> None:
        """Return if the KEK is shown to be the tenant's. Raises KeyNotUsableError, and as ``shown``."""
        if not self.shown(tenant, kek):
            raise KeyNotUsableError(
                f"nothing shows that key {kek.kek_id}, which tenant.json names, is tenant {tenant}'s",
                subject=f"kek {kek.kek_id}",
                next_step=f"compare it with your records, then run target-appliance keys rotate-kek {tenant},"
                " which makes a new key",
            )

    def _note(self, tenant: TenantId, kek: ChosenKek) -> None:
        with self._lock:
            self._shown.add((tenant, kek))

    def _proofs(self, tenant: TenantId, kek: ChosenKek) -> Iterator[tuple[WrappedKey, bytes]]:
        if kek.proof is not None:
            yield kek.proof, proof_context(tenant)
        for replica in self._files.replicas(tenant):
            for entry in self._files.entries(tenant, replica):
                if entry.kek == kek:
                    yield entry.wrapped, wrapping_context(tenant, replica, entry.disk, entry.epoch)

    def _unwraps(self, kek: ChosenKek, wrapped: WrappedKey, context: bytes) -> bool:
        try:
            self._directory.of(kek.kms).unwrap(wrapped, context)
        except KeyNotUsableError:
            return False
        return True

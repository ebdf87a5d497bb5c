"""A replica's DEKs: made, wrapped in the KMS under the tenant's KEK, written to the store, unwrapped again.

DEKs live in memory inside the values returned here, and for a while in a cache; both are wiped when they go.
"""

import os
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from common.clock import Clock, SystemClock
from common.errors import KeyNotUsableError
from common.ids import DiskKey, ReplicaId, TenantId
from target_appliance.kms.directory import KmsDirectory
from target_appliance.kms.port import KekState, Kms
from target_appliance.recovery.key_cache import KEEP_SECONDS, Confirmations, KeyCache, Wrapping
from target_appliance.recovery.key_files import ChosenKek, Entry, KeyFiles, TenantKeys, entry_of, order
from target_appliance.recovery.key_proof import Proofs
from target_appliance.recovery.tenant_keks import TenantKeks
from target_appliance.seal.keys import DEK_BYTES, DataKey, Entropy, wrapping_context
from target_appliance.seal.secret import MEMORY
from target_appliance.store.port import Store

FIRST_EPOCH: Final = 1
ASK_SECONDS: Final = 60.0
"""Between two questions about the KEK of a sync that runs: a withdrawn key ends it within a minute."""


class Keyring:
    """Keys of everything in a store. Thread-safe; any number of processes may use one store.

    Args:
        store: where wrapped keys lie.
        kms: where KEKs lie.
        entropy: source of DEKs.
        clock: for ages of keys.
        keep_seconds: for how long a DEK is kept, and a sync goes on without the KMS.
    """

    def __init__(
        self,
        store: Store,
        kms: Kms | KmsDirectory,
        entropy: Entropy = os.urandom,
        clock: Clock | None = None,
        keep_seconds: float = KEEP_SECONDS,
    ) -> None:
        self._store = store
        self.files = KeyFiles(store)
        self.directory = kms if isinstance(kms, KmsDirectory) else KmsDirectory(kms)
        self._entropy = entropy
        self._clock = clock or SystemClock()
        self.cache = KeyCache(self._clock, keep_seconds)
        self._confirmed = Confirmations(self._clock, keep_seconds)
        self.proofs = Proofs(self.directory, self.files)
        self.keks = TenantKeks(store, self.files, self.directory, self.proofs, self._clock)

    def require(self, tenant: TenantId) -> str:
        """The id of the tenant's KEK, which is Active now and shown to be the tenant's; made on first use.

        Raises:
            KeyNotUsableError: it is in any other state, or nothing shows that it is the tenant's.
            KmsUnavailableError: the KMS does not say.
        """
        chosen = self.keks.chosen(tenant) or self.keks.first(tenant)
        state = self._state(chosen)
        if state is not KekState.ACTIVE:
            now = self.keks.chosen(tenant)
            if now is not None and now != chosen:  # it was rotated, and the old one destroyed, in between
                chosen, state = now, self._state(now)
        if state is not KekState.ACTIVE:
            self.cache.drop(chosen)
            raise _not_active(tenant, chosen.kek_id, state)
        self.proofs.require(tenant, chosen)
        self._confirmed.note(_of_tenant(tenant))
        return chosen.kek_id

    def still(self, tenant: TenantId) -> None:
        """Return while a sync of the tenant's may go on; the KMS is asked once in ASK_SECONDS.

        Raises:
            KeyNotUsableError: the KMS says that the tenant's KEK is not Active any more.
            KmsUnavailableError: the KMS has not answered for as long as a DEK may be kept.
        """
        self._confirmed.require(_of_tenant(tenant), lambda: self.require(tenant), ASK_SECONDS)

    def ensure(
        self,
        tenant: TenantId,
        replica: ReplicaId,
        disks: Iterable[DiskKey],
        used: Iterable[tuple[DiskKey, int]] = (),
    ) -> dict[DiskKey, DataKey]:
        """The newest DEK of each disk, made and written where one is missing. Call ``require`` before.

        Args:
            tenant: owner.
            replica: whose disks.
            disks: which.
            used: disk and epoch of DEKs that points are sealed with: these must be there, or nothing is written.

        Raises:
            KeyNotUsableError: a DEK in use is missing, or the KMS does not unwrap or wrap one.
            DamagedError: the replica's file is not what was written.
            BusyError: another process has been changing the tenant's keys for long.
        """
        wanted = tuple(disks)
        entries = self.files.entries(tenant, replica)
        for disk, epoch in used:
            entry_of(entries, replica, disk, epoch)
        if not set(wanted) <= {entry.disk for entry in entries}:
            with self.files.locked(tenant):
                entries = self.files.entries(tenant, replica)
                missing = [disk for disk in wanted if disk not in {entry.disk for entry in entries}]
                entries = self._add(tenant, replica, entries, dict.fromkeys(missing, FIRST_EPOCH))
        newest = {entry.disk: entry.epoch for entry in sorted(entries, key=order)}
        return {disk: self.open(tenant, replica, disk, newest[disk]) for disk in wanted}

    def open(self, tenant: TenantId, replica: ReplicaId, disk: DiskKey, epoch: int) -> DataKey:
        """One DEK. The KMS is asked whether it may be used, even where it is kept.

        Raises:
            KeyNotUsableError: it is not in the replica's file, or the KMS does not unwrap it.
            KmsUnavailableError: the KMS does not answer, and the DEK is not kept.
            DamagedError: the replica's file is not what was written.
        """
        entry = entry_of(self.files.entries(tenant, replica), replica, disk, epoch)
        try:
            return self._unwrapped(tenant, replica, entry)
        except KeyNotUsableError:
            again = entry_of(self.files.entries(tenant, replica), replica, disk, epoch)
            if again == entry:
                raise
            return self._unwrapped(tenant, replica, again)  # it was wrapped anew, and the old KEK destroyed, meanwhile

    def may_unwrap(self, tenant: TenantId, replica: ReplicaId, disk: DiskKey, epoch: int) -> bool:
        """Whether the KEK that wraps a DEK is Active: then a DEK that does not unwrap was altered."""
        return self._state(entry_of(self.files.entries(tenant, replica), replica, disk, epoch).kek) is KekState.ACTIVE

    def epochs(self, tenant: TenantId, replica: ReplicaId) -> tuple[tuple[DiskKey, int], ...]:
        """Disk and epoch of each wrapped DEK. Raises DamagedError."""
        return tuple((entry.disk, entry.epoch) for entry in self.files.entries(tenant, replica))

    def newest_epochs(self, tenant: TenantId, replica: ReplicaId) -> dict[DiskKey, int]:
        """The newest epoch of each disk. Raises DamagedError."""
        return dict(sorted(self.epochs(tenant, replica)))

    def rotate_dek(self, tenant: TenantId, replica: ReplicaId) -> dict[DiskKey, int]:
        """Give each disk of a replica a new DEK, with which its next point begins a chain; returns the new epochs.

        Raises:
            KeyNotUsableError, KmsUnavailableError: the tenant's KEK cannot be used.
            BusyError: another process has been changing the tenant's keys for long.
        """
        self.require(tenant)
        with self.files.locked(tenant):
            entries = self.files.entries(tenant, replica)
            made = {entry.disk: entry.epoch + 1 for entry in sorted(entries, key=order)}
            if made:
                self._add(tenant, replica, entries, made)
        return made

    def rewrap(self, tenant: TenantId, replica: ReplicaId) -> int:
        """Wrap a replica's DEKs under the tenant's present KEK; returns how many were not. Nothing else changes.

        Raises:
            KeyNotUsableError, KmsUnavailableError: one cannot be unwrapped or wrapped; the file is as it was.
        """
        with self.files.locked(tenant):
            keys = self.files.tenant(tenant)
            entries = self.files.entries(tenant, replica)
            old = [entry for entry in entries if keys is not None and entry.kek != keys.chosen]
            if keys is None or not old:
                return 0
            self.proofs.require(tenant, keys.chosen)
            self._count(tenant, keys, len(old))
            again = [entry if entry not in old else self._rewrapped(tenant, replica, entry, keys) for entry in entries]
            self.files.put_entries(tenant, replica, again)
            return len(old)

    def close(self) -> None:
        """Wipe what is kept."""
        self.cache.clear()

    def _rewrapped(self, tenant: TenantId, replica: ReplicaId, entry: Entry, keys: TenantKeys) -> Entry:
        key = self._unwrapped(tenant, replica, entry)
        new = self._wrapped(tenant, key, keys.chosen)
        if self._unwrapped(tenant, replica, new).material != key.material:  # before the old wrapping is given up
            raise KeyNotUsableError(
                f"the KMS unwraps another key than it wrapped, for disk {entry.disk} of replica {replica}",
                subject=f"kek {keys.chosen.kek_id}",
                next_step="ask the KMS's administrator what it does to keys; nothing was changed",
            )
        return new

    def _add(self, tenant: TenantId, replica: ReplicaId, entries: list[Entry], made: dict[DiskKey, int]) -> list[Entry]:
        """Make DEKs and write them; the lock is the caller's."""
        keys = self.files.tenant(tenant)
        if keys is None:
            keys = TenantKeys(self.keks.make(tenant))
        if not made:
            return entries
        self.proofs.require(tenant, keys.chosen)
        self._count(tenant, keys, len(made))
        for disk, epoch in made.items():
            key = DataKey(replica, disk, epoch, MEMORY.hold(self._entropy(DEK_BYTES)))
            entries = [*entries, self._wrapped(tenant, key, keys.chosen)]
            self._keep(tenant, key, entries[-1])
        self.files.put_entries(tenant, replica, entries)
        return sorted(entries, key=order)

    def _count(self, tenant: TenantId, keys: TenantKeys, wraps: int) -> None:
        """Before they are made: what is counted and was not done is the smaller error."""
        before = 0 if keys.wraps is None else keys.wraps
        self.files.put_tenant(tenant, replace(keys, wraps=before + wraps))

    def _state(self, kek: ChosenKek) -> KekState:
        return self.directory.of(kek.kms).state(kek.kek_id)

    def _wrapped(self, tenant: TenantId, key: DataKey, kek: ChosenKek) -> Entry:
        context = wrapping_context(tenant, key.replica, key.disk, key.epoch)
        wrapped = self.directory.of(kek.kms).wrap(kek.kek_id, key.value, context)
        return Entry(key.disk, key.epoch, wrapped, kek.kms)

    def _unwrapped(self, tenant: TenantId, replica: ReplicaId, entry: Entry) -> DataKey:
        wrapping = _wrapping(tenant, replica, entry)
        held = self.cache.get(wrapping)
        if held is None:
            held = MEMORY.hold(self.directory.of(entry.kms).unwrap(entry.wrapped, wrapping.context))
            self._confirmed.note(_of_kek(entry.kek))
            self.cache.put(wrapping, held)
        else:
            self._confirmed.require(_of_kek(entry.kek), lambda: self._require_usable(tenant, entry.kek), every=0.0)
        return DataKey(replica, entry.disk, entry.epoch, held)

    def _keep(self, tenant: TenantId, key: DataKey, entry: Entry) -> None:
        """A DEK that was just wrapped: the KMS let its KEK be used."""
        if not isinstance(key.material, bytes):
            self._confirmed.note(_of_kek(entry.kek))
            self.cache.put(_wrapping(tenant, key.replica, entry), key.material)

    def _require_usable(self, tenant: TenantId, kek: ChosenKek) -> None:
        state = self._state(kek)
        if state is not KekState.ACTIVE:
            self.cache.drop(kek)
            raise _not_active(tenant, kek.kek_id, state)


def _wrapping(tenant: TenantId, replica: ReplicaId, entry: Entry) -> Wrapping:
    return Wrapping(wrapping_context(tenant, replica, entry.disk, entry.epoch), entry.wrapped, entry.kms)


def _of_tenant(tenant: TenantId) -> str:
    return f"tenant {tenant}"


def _of_kek(kek: ChosenKek) -> str:
    return f"kek {kek.kek_id}" if kek.kms is None else f"kek {kek.kek_id} of {kek.kms}"


def _not_active(tenant: TenantId, kek_id: str, state: KekState) -> KeyNotUsableError:
    what = "does not exist" if state is KekState.ABSENT else f"is {state.value}"
    return KeyNotUsableError(
        f"the key-encryption key {kek_id} of tenant {tenant} {what} at the KMS, so nothing is accepted",
        subject=f"kek {kek_id}",
        next_step=f"let the KMS administrator {'activate' if state is KekState.PRE_ACTIVE else 'restore'} it",
    )

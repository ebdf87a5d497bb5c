"""A tenant's KEK and a replica's DEKs: made, wrapped in the KMS, written to the store, unwrapped again.

DEKs live in memory only inside the values returned here; nothing is kept between calls.
"""

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from common.errors import AlreadyExistsError, InvalidInputError, KeyNotUsableError, NotFoundError
from common.ids import DiskKey, ReplicaId, TenantId, parse_disk_key
from target_appliance.kms.directory import DEFAULT, KmsDirectory
from target_appliance.kms.port import KekState, Kms, WrappedKey
from target_appliance.kms.trial import try_key
from target_appliance.recovery import names, small_file
from target_appliance.seal.keys import DEK_BYTES, DataKey, Entropy, wrapping_context
from target_appliance.store.port import Store

_FIRST_EPOCH = 1


class Keyring:
    """Keys of everything in a store. Thread-safe; one process at a time may add keys to a replica (its lease)."""

    def __init__(self, store: Store, kms: Kms | KmsDirectory, entropy: Entropy = os.urandom) -> None:
        self._store = store
        self._directory = kms if isinstance(kms, KmsDirectory) else KmsDirectory(kms)
        self._entropy = entropy
        self._creating = threading.Lock()

    def require(self, tenant: TenantId) -> str:
        """The id of the tenant's KEK, which is Active now; made on first use.

        Raises:
            KeyNotUsableError: it is in any other state.
            KmsUnavailableError: the KMS does not say.
        """
        chosen = self.chosen(tenant) or self._new_kek(tenant)
        kek_id, state = chosen.kek_id, self._directory.of(chosen.kms).state(chosen.kek_id)
        if state is not KekState.ACTIVE:
            what = "does not exist" if state is KekState.ABSENT else f"is {state.value}"
            raise KeyNotUsableError(
                f"the key-encryption key {kek_id} of tenant {tenant} {what} at the KMS, so nothing is accepted",
                subject=f"kek {kek_id}",
                next_step=f"let the KMS administrator {'activate' if state is KekState.PRE_ACTIVE else 'restore'} it",
            )
        return kek_id

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
        """
        entries = self._entries(tenant, replica)
        for disk, epoch in used:
            self._entry(entries, replica, disk, epoch)
        newest = {entry.disk: entry for entry in sorted(entries, key=_order)}
        found: dict[DiskKey, DataKey] = {}
        made: list[_Entry] = []
        for disk in disks:
            if disk in newest:
                found[disk] = self._unwrapped(tenant, replica, newest[disk])
            else:
                key = DataKey(replica, disk, _FIRST_EPOCH, self._entropy(DEK_BYTES))
                made.append(self._wrapped(tenant, key))
                found[disk] = key
        if made:
            folder = names.replica_folder(tenant, replica)
            self._store.make_folder(folder)
            keys = [entry.members() for entry in sorted(entries + made, key=_order)]
            members = {"tenant": tenant, "replica": replica, "keys": keys}
            small_file.replace(self._store, folder, names.REPLICA_FILE, members)
        return found

    def open(self, tenant: TenantId, replica: ReplicaId, disk: DiskKey, epoch: int) -> DataKey:
        """One DEK.

        Raises:
            KeyNotUsableError: it is not in the replica's file, or the KMS does not unwrap it.
            KmsUnavailableError: the KMS does not answer.
            DamagedError: the replica's file is not what was written.
        """
        return self._unwrapped(tenant, replica, self._entry(self._entries(tenant, replica), replica, disk, epoch))

    def may_unwrap(self, tenant: TenantId, replica: ReplicaId, disk: DiskKey, epoch: int) -> bool:
        """Whether the KEK that wraps a DEK is Active: then a DEK that does not unwrap was altered."""
        entry = self._entry(self._entries(tenant, replica), replica, disk, epoch)
        return self._directory.of(entry.kms).state(entry.wrapped.kek_id) is KekState.ACTIVE

    def epochs(self, tenant: TenantId, replica: ReplicaId) -> tuple[tuple[DiskKey, int], ...]:
        """Disk and epoch of each wrapped DEK. Raises DamagedError."""
        return tuple((entry.disk, entry.epoch) for entry in self._entries(tenant, replica))

    def known_kek(self, tenant: TenantId) -> str | None:
        """The id of the tenant's KEK, None before its first use. Raises DamagedError."""
        chosen = self.chosen(tenant)
        return None if chosen is None else chosen.kek_id

    def chosen(self, tenant: TenantId) -> "ChosenKek | None":
        """The tenant's KEK and its KMS, None before its first use. Raises DamagedError."""
        path = f"{names.tenant_folder(tenant)}/{names.TENANT_FILE}"
        try:
            members = small_file.read(self._store, path)
        except NotFoundError:
            return None
        kek_id, kms = members.get("kek_id"), members.get("kms", DEFAULT)
        if members.get("tenant") != tenant or not isinstance(kek_id, str) or not isinstance(kms, str | None):
            raise small_file.damaged(path, "it is not this tenant's")
        return ChosenKek(kms, kek_id)

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
        with self._creating:
            before = self.chosen(tenant)
            if before is not None:
                if before.kms == kms and kek_id in (None, before.kek_id):
                    return before.kek_id
                raise _chosen_before(tenant, before)
            self._require_unused(tenant)
            server = self._directory.of(kms)
            if kek_id is None:
                return self._write(tenant, ChosenKek(kms, server.create_kek(tenant))).kek_id
            self._require_alone(ChosenKek(kms, kek_id))
            try_key(server.name, kek_id, server.wrap, server.unwrap)
            return self._write(tenant, ChosenKek(kms, kek_id)).kek_id

    def _new_kek(self, tenant: TenantId) -> "ChosenKek":
        with self._creating:
            known = self.chosen(tenant)
            if known is not None:
                return known
            self._require_unused(tenant)
            return self._write(tenant, ChosenKek(DEFAULT, self._directory.default.create_kek(tenant)))

    def _require_unused(self, tenant: TenantId) -> None:
        if self._store.names(names.replicas_folder(tenant)):
            # Made anew, it would hide that the file was lost, and with it which key the replicas need.
            path = f"{names.tenant_folder(tenant)}/{names.TENANT_FILE}"
            raise small_file.damaged(path, "it is missing, but the tenant has replicas")

    def _require_alone(self, wanted: "ChosenKek") -> None:
        for name in self._store.names(names.TENANTS):
            if self.chosen(TenantId(name)) == wanted:
                raise AlreadyExistsError(
                    f"key {wanted.kek_id} is tenant {name}'s, and tenants share no keys",
                    subject=f"kek {wanted.kek_id}",
                    next_step="choose a key that no other tenant uses, or let one be made",
                )

    def _write(self, tenant: TenantId, chosen: "ChosenKek") -> "ChosenKek":
        folder = names.tenant_folder(tenant)
        self._store.make_folder(folder)
        members = {"tenant": tenant, "kek_id": chosen.kek_id, **_named(chosen.kms)}
        small_file.replace(self._store, folder, names.TENANT_FILE, members)
        return chosen

    @staticmethod
    def _entry(entries: Iterable["_Entry"], replica: ReplicaId, disk: DiskKey, epoch: int) -> "_Entry":
        for entry in entries:
            if (entry.disk, entry.epoch) == (disk, epoch):
                return entry
        raise KeyNotUsableError(
            f"the wrapped key of disk {disk}, epoch {epoch}, is not in the replica's key file",
            subject=f"replica {replica}",
            next_step="restore replica.json from another copy of the store",
        )

    def _entries(self, tenant: TenantId, replica: ReplicaId) -> list["_Entry"]:
        path = f"{names.replica_folder(tenant, replica)}/{names.REPLICA_FILE}"
        try:
            members = small_file.read(self._store, path)
        except NotFoundError:
            return []
        if (members.get("tenant"), members.get("replica")) != (tenant, replica):
            raise small_file.damaged(path, "it is another replica's")
        try:
            return [_Entry.parse(entry) for entry in members["keys"]]
        except (KeyError, TypeError, ValueError, AttributeError, InvalidInputError):
            raise small_file.damaged(path, "its keys are not of this format") from None

    def _wrapped(self, tenant: TenantId, key: DataKey) -> "_Entry":
        chosen = self.chosen(tenant) or self._new_kek(tenant)
        context = wrapping_context(tenant, key.replica, key.disk, key.epoch)
        wrapped = self._directory.of(chosen.kms).wrap(chosen.kek_id, key.value, context)
        return _Entry(key.disk, key.epoch, wrapped, chosen.kms)

    def _unwrapped(self, tenant: TenantId, replica: ReplicaId, entry: "_Entry") -> DataKey:
        context = wrapping_context(tenant, replica, entry.disk, entry.epoch)
        value = self._directory.of(entry.kms).unwrap(entry.wrapped, context)
        return DataKey(replica, entry.disk, entry.epoch, value)


@dataclass(frozen=True, slots=True)
class ChosenKek:
    """Where a tenant's new DEKs are wrapped."""

    kms: str | None
    """Name of the KMS; None for the default one."""
    kek_id: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """One wrapped DEK in a replica's file."""

    disk: DiskKey
    epoch: int
    wrapped: WrappedKey
    kms: str | None
    """Where the KEK lies; None for the default KMS."""

    @classmethod
    def parse(cls, members: dict[str, Any]) -> "_Entry":
        wrapped = WrappedKey(
            str(members["kek_id"]),
            str(members["algorithm"]),
            bytes.fromhex(members["nonce"]),
            bytes.fromhex(members["ciphertext"]),
            bytes.fromhex(members["tag"]),
        )
        kms = members.get("kms", DEFAULT)
        return cls(parse_disk_key(members["disk"]), int(members["epoch"]), wrapped, None if kms is None else str(kms))

    def members(self) -> dict[str, Any]:
        wrapped = self.wrapped
        return {
            "disk": self.disk,
            "epoch": self.epoch,
            "kek_id": wrapped.kek_id,
            "algorithm": wrapped.algorithm,
            "nonce": wrapped.nonce.hex(),
            "ciphertext": wrapped.ciphertext.hex(),
            "tag": wrapped.tag.hex(),
            **_named(self.kms),
        }


def _named(kms: str | None) -> dict[str, str]:
    """The member that names a KMS; the default one has none."""
    return {} if kms is None else {"kms": kms}


def _chosen_before(tenant: TenantId, before: ChosenKek) -> AlreadyExistsError:
    where = "the default KMS" if before.kms is None else f"the KMS {before.kms}"
    return AlreadyExistsError(
        f"tenant {tenant} has key {before.kek_id} at {where} already",
        subject=f"tenant {tenant}",
        next_step="leave --kms and --kek out for a tenant that is registered",
    )


def _order(entry: _Entry) -> tuple[int, int]:
    return entry.disk, entry.epoch

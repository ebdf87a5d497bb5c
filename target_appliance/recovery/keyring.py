"""A tenant's KEK and a replica's DEKs: made, wrapped in the KMS, written to the store, unwrapped again.

DEKs live in memory only inside the values returned here; nothing is kept between calls.
"""

import os
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from common.errors import InvalidInputError, KeyNotUsableError, NotFoundError
from common.ids import DiskKey, ReplicaId, TenantId, parse_disk_key
from target_appliance.kms.port import KekState, Kms, WrappedKey
from target_appliance.recovery import names, small_file
from target_appliance.seal.keys import DEK_BYTES, DataKey, Entropy, wrapping_context
from target_appliance.store.port import Store

_FIRST_EPOCH = 1


class Keyring:
    """Keys of everything in a store. Thread-safe; one process at a time may add keys to a replica (its lease)."""

    def __init__(self, store: Store, kms: Kms, entropy: Entropy = os.urandom) -> None:
        self._store = store
        self._kms = kms
        self._entropy = entropy
        self._creating = threading.Lock()

    def require(self, tenant: TenantId) -> str:
        """The id of the tenant's KEK, which is Active now; made on first use.

        Raises:
            KeyNotUsableError: it is in any other state.
            KmsUnavailableError: the KMS does not say.
        """
        kek_id = self.known_kek(tenant) or self._new_kek(tenant)
        state = self._kms.state(kek_id)
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
        return self._kms.state(entry.wrapped.kek_id) is KekState.ACTIVE

    def epochs(self, tenant: TenantId, replica: ReplicaId) -> tuple[tuple[DiskKey, int], ...]:
        """Disk and epoch of each wrapped DEK. Raises DamagedError."""
        return tuple((entry.disk, entry.epoch) for entry in self._entries(tenant, replica))

    def known_kek(self, tenant: TenantId) -> str | None:
        """The id of the tenant's KEK, None before its first use. Raises DamagedError."""
        path = f"{names.tenant_folder(tenant)}/{names.TENANT_FILE}"
        try:
            members = small_file.read(self._store, path)
        except NotFoundError:
            return None
        if members.get("tenant") != tenant or not isinstance(members.get("kek_id"), str):
            raise small_file.damaged(path, "it is not this tenant's")
        return str(members["kek_id"])

    def _new_kek(self, tenant: TenantId) -> str:
        with self._creating:
            known = self.known_kek(tenant)
            if known is not None:
                return known
            if self._store.names(names.replicas_folder(tenant)):
                # Made anew, it would hide that the file was lost, and with it which key the replicas need.
                path = f"{names.tenant_folder(tenant)}/{names.TENANT_FILE}"
                raise small_file.damaged(path, "it is missing, but the tenant has replicas")
            kek_id = self._kms.create_kek(tenant)
            folder = names.tenant_folder(tenant)
            self._store.make_folder(folder)
            small_file.replace(self._store, folder, names.TENANT_FILE, {"tenant": tenant, "kek_id": kek_id})
            return kek_id

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
        kek_id = self.known_kek(tenant) or self._new_kek(tenant)
        context = wrapping_context(tenant, key.replica, key.disk, key.epoch)
        return _Entry(key.disk, key.epoch, self._kms.wrap(kek_id, key.value, context))

    def _unwrapped(self, tenant: TenantId, replica: ReplicaId, entry: "_Entry") -> DataKey:
        context = wrapping_context(tenant, replica, entry.disk, entry.epoch)
        value = self._kms.unwrap(entry.wrapped, context)
        return DataKey(replica, entry.disk, entry.epoch, value)


@dataclass(frozen=True, slots=True)
class _Entry:
    """One wrapped DEK in a replica's file."""

    disk: DiskKey
    epoch: int
    wrapped: WrappedKey

    @classmethod
    def parse(cls, members: dict[str, Any]) -> "_Entry":
        wrapped = WrappedKey(
            str(members["kek_id"]),
            str(members["algorithm"]),
            bytes.fromhex(members["nonce"]),
            bytes.fromhex(members["ciphertext"]),
            bytes.fromhex(members["tag"]),
        )
        return cls(parse_disk_key(members["disk"]), int(members["epoch"]), wrapped)

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
        }


def _order(entry: _Entry) -> tuple[int, int]:
    return entry.disk, entry.epoch

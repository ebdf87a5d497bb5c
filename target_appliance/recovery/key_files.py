"""``tenant.json`` and ``replica.json``: which KEK is a tenant's, and a replica's wrapped DEKs. See docs/format.md.

Whoever changes one holds the tenant's lock from before he reads it until it is written. Readers hold nothing: a file is
replaced whole.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from common.errors import InvalidInputError, KeyNotUsableError, NotFoundError, PreconditionError
from common.ids import DiskKey, ReplicaId, TenantId, parse_disk_key, parse_replica
from target_appliance.kms.directory import DEFAULT
from target_appliance.kms.port import WrappedKey
from target_appliance.recovery import names, small_file
from target_appliance.store.port import Store


@dataclass(frozen=True, slots=True)
class ChosenKek:
    """A KEK and where it lies."""

    kms: str | None
    """Name of the KMS; None for the default one."""
    kek_id: str
    proof: WrappedKey | None = field(default=None, compare=False)
    """What shows that it is the tenant's (see key_proof.py); None where a release before this chose it."""

    def members(self) -> dict[str, Any]:
        """For a file; the default KMS has no name."""
        name = {"kek_id": self.kek_id} if self.kms is None else {"kek_id": self.kek_id, "kms": self.kms}
        return name if self.proof is None else {**name, "proof": _members(self.proof)}

    @classmethod
    def parse(cls, members: dict[str, Any]) -> "ChosenKek":
        """Raises ValueError, KeyError, TypeError."""
        kek_id, kms = members["kek_id"], members.get("kms", DEFAULT)
        if not isinstance(kek_id, str) or not isinstance(kms, str | None):
            raise ValueError("names are text")  # noqa: TRY004  one error for all that a file cannot be
        return cls(kms, kek_id, _parse(members["proof"], kek_id) if "proof" in members else None)


@dataclass(frozen=True, slots=True)
class TenantKeys:
    """A tenant's KEKs."""

    chosen: ChosenKek
    """Under which DEKs are wrapped from now on."""
    since: int | None = None
    """Since when, in seconds since 1970-01-01 UTC; None where a release before this wrote the file."""
    wraps: int | None = None
    """At most so many DEKs were wrapped under it since; None as above."""
    retired: tuple[ChosenKek, ...] = ()
    """Those before, as long as they are not known to be destroyed; the oldest first."""

    @property
    def all(self) -> tuple[ChosenKek, ...]:
        """Every KEK under which something of the tenant's may be wrapped."""
        return (self.chosen, *self.retired)

    @classmethod
    def parse(cls, members: dict[str, Any]) -> "TenantKeys":
        """Raises ValueError, KeyError, TypeError, AttributeError."""
        since, wraps = members.get("since"), members.get("wraps")
        if not isinstance(since, int | None) or not isinstance(wraps, int | None):
            raise ValueError("these are numbers")  # noqa: TRY004  as above
        retired = tuple(ChosenKek.parse(one) for one in members.get("retired", []))
        return cls(ChosenKek.parse(members), since, wraps, retired)

    def members(self) -> dict[str, Any]:
        """For the file, which lacks what is not known."""
        known = {name: value for name, value in (("since", self.since), ("wraps", self.wraps)) if value is not None}
        retired = {"retired": [kek.members() for kek in self.retired]} if self.retired else {}
        return {**self.chosen.members(), **known, **retired}


@dataclass(frozen=True, slots=True)
class Entry:
    """One wrapped DEK in a replica's file."""

    disk: DiskKey
    epoch: int
    wrapped: WrappedKey
    kms: str | None
    """Where the KEK lies; None for the default KMS."""

    @property
    def kek(self) -> ChosenKek:
        """Under which KEK it is."""
        return ChosenKek(self.kms, self.wrapped.kek_id)

    @classmethod
    def parse(cls, members: dict[str, Any]) -> "Entry":
        """Raises ValueError, KeyError, TypeError."""
        kek = ChosenKek.parse(members)
        return cls(parse_disk_key(members["disk"]), int(members["epoch"]), _parse(members, kek.kek_id), kek.kms)

    def members(self) -> dict[str, Any]:
        """For the file."""
        return {"disk": self.disk, "epoch": self.epoch, **_members(self.wrapped), **self.kek.members()}


class KeyFiles:
    """The files in a store. Thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def locked(self, tenant: TenantId) -> AbstractContextManager[None]:
        """Be alone in changing the tenant's key files. Raises BusyError."""
        folder = names.tenant_folder(tenant)
        self._store.make_folder(folder)
        return self._store.lock(f"{folder}/{names.KEYS_LOCK}")

    def points_locked(self, tenant: TenantId) -> AbstractContextManager[None]:
        """Let no sync of the tenant's become a point while the block runs. Raises BusyError, NotFoundError."""
        return self._store.lock(f"{names.tenant_folder(tenant)}/{names.POINTS_LOCK}")

    @contextmanager
    def still_kept(self, tenant: TenantId) -> Iterator[None]:
        """Let nobody begin to erase the tenant while the block runs.

        Raises:
            PreconditionError: it is being erased, or is gone.
            BusyError: that is being decided.
        """
        with ExitStack() as life:
            try:
                life.enter_context(self.points_locked(tenant))
            except NotFoundError:
                raise _erased(tenant) from None
            self.require_kept(tenant)
            if not self.replicas(tenant):  # the lock may be of a folder that is gone
                raise _erased(tenant)
            yield

    def require_kept(self, tenant: TenantId) -> None:
        """Return if the tenant is not being erased. Raises PreconditionError."""
        if names.ERASE_FILE in self._store.names(names.tenant_folder(tenant)):
            raise _erased(tenant)

    def tenant(self, tenant: TenantId) -> TenantKeys | None:
        """The tenant's KEKs, None before the first use. Raises DamagedError."""
        path = f"{names.tenant_folder(tenant)}/{names.TENANT_FILE}"
        try:
            members = small_file.read(self._store, path)
        except NotFoundError:
            return None
        try:
            keys = TenantKeys.parse(members)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise small_file.damaged(path, "its keys are not of this format") from None
        if members.get("tenant") != tenant:
            raise small_file.damaged(path, "it is not this tenant's")
        return keys

    def put_tenant(self, tenant: TenantId, keys: TenantKeys) -> None:
        """Replace the tenant's file; the lock is the caller's."""
        members = {"tenant": tenant, **keys.members()}
        folder = names.tenant_folder(tenant)
        self._store.make_folder(folder)
        small_file.replace(self._store, folder, names.TENANT_FILE, members)

    def replicas(self, tenant: TenantId) -> tuple[ReplicaId, ...]:
        """The tenant's replicas, sorted; what is called otherwise is none."""
        return tuple(names.parsed(self._store.names(names.replicas_folder(tenant)), parse_replica))

    def wrapped_under(self, tenant: TenantId) -> dict[ChosenKek, int]:
        """How many of the tenant's DEKs are wrapped under which KEK. Raises DamagedError."""
        return Counter(entry.kek for replica in self.replicas(tenant) for entry in self.entries(tenant, replica))

    def entries(self, tenant: TenantId, replica: ReplicaId) -> list[Entry]:
        """A replica's wrapped DEKs; none when it has no file. Raises DamagedError."""
        path = f"{names.replica_folder(tenant, replica)}/{names.REPLICA_FILE}"
        try:
            members = small_file.read(self._store, path)
        except NotFoundError:
            return []
        if (members.get("tenant"), members.get("replica")) != (tenant, replica):
            raise small_file.damaged(path, "it is another replica's")
        try:
            return [Entry.parse(entry) for entry in members["keys"]]
        except (KeyError, TypeError, ValueError, AttributeError, InvalidInputError):
            raise small_file.damaged(path, "its keys are not of this format") from None

    def put_entries(self, tenant: TenantId, replica: ReplicaId, entries: Iterable[Entry]) -> None:
        """Replace a replica's file; the lock is the caller's."""
        folder = names.replica_folder(tenant, replica)
        self._store.make_folder(folder)
        keys = [entry.members() for entry in sorted(entries, key=order)]
        members = {"tenant": tenant, "replica": replica, "keys": keys}
        small_file.replace(self._store, folder, names.REPLICA_FILE, members)


def _members(wrapped: WrappedKey) -> dict[str, Any]:
    """For a file, which names the KEK elsewhere."""
    return {
        "algorithm": wrapped.algorithm,
        "nonce": wrapped.nonce.hex(),
        "ciphertext": wrapped.ciphertext.hex(),
        "tag": wrapped.tag.hex(),
        **({} if wrapped.key_version is None else {"key_version": wrapped.key_version}),
    }


def _parse(members: dict[str, Any], kek_id: str) -> WrappedKey:
    """Raises ValueError, KeyError, TypeError."""
    return WrappedKey(
        kek_id,
        str(members["algorithm"]),
        bytes.fromhex(members["nonce"]),
        bytes.fromhex(members["ciphertext"]),
        bytes.fromhex(members["tag"]),
        None if members.get("key_version") is None else int(members["key_version"]),
    )


def _erased(tenant: TenantId) -> PreconditionError:
    return PreconditionError(
        f"tenant {tenant} is being erased, so nothing of it is stored any more",
        subject=f"tenant {tenant}",
        next_step="ask the target's operator; tenants erase goes on where it was cut",
    )


def order(entry: Entry) -> tuple[int, int]:
    """As entries stand in the file."""
    return entry.disk, entry.epoch


def entry_of(entries: Iterable[Entry], replica: ReplicaId, disk: DiskKey, epoch: int) -> Entry:
    """One wrapped DEK. Raises KeyNotUsableError."""
    for entry in entries:
        if (entry.disk, entry.epoch) == (disk, epoch):
            return entry
    raise KeyNotUsableError(
        f"the wrapped key of disk {disk}, epoch {epoch}, is not in the replica's key file",
        subject=f"replica {replica}",
        next_step="restore replica.json from another copy of the store",
    )

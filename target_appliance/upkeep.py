"""What ``kms status`` does: ask each KMS whether it works, and for the state of each tenant's key."""

import contextlib
import dataclasses
from typing import Any

from common.clock import Clock, SystemClock
from common.errors import KeysapartError, KmsUnavailableError
from target_appliance.config import ApplianceConfig
from target_appliance.kms import registry
from target_appliance.kms.directory import KmsDirectory
from target_appliance.kms.port import Kms
from target_appliance.recovery.key_files import ChosenKek
from target_appliance.recovery.keyring import Keyring
from target_appliance.recovery.vault import Vault
from target_appliance.store.posix import PosixStore


@dataclasses.dataclass(frozen=True, slots=True)
class KmsStatus:
    """What one KMS says."""

    name: str
    trouble: str | None
    """Why it cannot be used; None when it can."""

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"name": self.name, "ready": self.trouble is None, "trouble": self.trouble}


@dataclasses.dataclass(frozen=True, slots=True)
class KmsReport:
    """What all of them say."""

    default: KmsStatus
    named: dict[str, KmsStatus]
    keys: tuple[dict[str, str | None], ...]
    """One per tenant: ``tenant``, ``kms`` (None for the default one), ``kek`` (None before its first sync), ``state``
    (None when nobody knows)."""

    def of(self, tenant: str) -> KmsStatus:
        """The KMS that holds a tenant's key, or will."""
        own = next((key["kms"] for key in self.keys if key["tenant"] == tenant), None)
        return self.default if own is None else self.named.get(own) or KmsStatus(own, "the configuration lacks it")

    @property
    def ready(self) -> bool:
        """Whether all of them can be used."""
        return all(status.trouble is None for status in (self.default, *self.named.values()))

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        named = {name: status.to_json() for name, status in self.named.items()}
        return {**self.default.to_json(), "named": named, "keys": list(self.keys)}


def kms_status(config: ApplianceConfig, clock: Clock | None = None) -> KmsReport:
    """Ask each KMS; keys' states are asked for only where it answers.

    Raises:
        ConfigError: the default KMS's files cannot be used.
        StoreError: the store cannot be read.
    """
    clock = clock or SystemClock()
    with (
        contextlib.closing(PosixStore(config.store_dir)) as store,
        contextlib.closing(registry.directory(config, clock)) as kms,
    ):
        default = KmsStatus(kms.default.name, _trouble(kms.default, KmsUnavailableError))
        named = {name: _status(name, one) for name, one in kms.named.items()}
        answering = {name for name, status in ((None, default), *named.items()) if status.trouble is None}
        keyring = Keyring(store, kms)
        keys: list[dict[str, str | None]] = []
        for tenant in Vault(store, kms, clock).tenants():
            chosen = keyring.keks.chosen(tenant)
            where, kek = (None, None) if chosen is None else (chosen.kms, chosen.kek_id)
            keys.append({"tenant": tenant, "kms": where, "kek": kek, "state": _state(kms, answering, chosen)})
        return KmsReport(default, named, tuple(keys))


def _status(name: str, kms: Kms) -> KmsStatus:
    """Of a named KMS, whose files may be wrong, too: then it goes by the name that the configuration gives it."""
    trouble = _trouble(kms, KeysapartError)
    return KmsStatus(kms.name if trouble is None else name, trouble)


def _trouble(kms: Kms, expected: type[KeysapartError]) -> str | None:
    try:
        kms.probe()
    except expected as error:
        return str(error)
    return None


def _state(kms: KmsDirectory, answering: set[str | None], chosen: ChosenKek | None) -> str | None:
    if chosen is None or chosen.kms not in answering:
        return None
    return kms.of(chosen.kms).state(chosen.kek_id).value

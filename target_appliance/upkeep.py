"""What ``kms status`` does: ask the KMS whether it works, and for the state of each tenant's key."""

import contextlib
import dataclasses
from typing import Any

from common.clock import Clock, SystemClock
from common.errors import KmsUnavailableError
from target_appliance.config import ApplianceConfig
from target_appliance.kms import registry
from target_appliance.recovery.keyring import Keyring
from target_appliance.recovery.vault import Vault
from target_appliance.store.posix import PosixStore


@dataclasses.dataclass(frozen=True, slots=True)
class KmsStatus:
    """What the KMS says."""

    name: str
    trouble: str | None
    """Why it cannot be used; None when it can."""
    keys: tuple[dict[str, str | None], ...]
    """One per tenant: ``tenant``, ``kek`` (None before its first sync), ``state`` (None when nobody knows)."""

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"name": self.name, "ready": self.trouble is None, "trouble": self.trouble, "keys": list(self.keys)}


def kms_status(config: ApplianceConfig, clock: Clock | None = None) -> KmsStatus:
    """Ask the KMS; keys' states are asked for only while it answers.

    Raises:
        ConfigError: the KMS's files cannot be used.
        StoreError: the store cannot be read.
    """
    clock = clock or SystemClock()
    with (
        contextlib.closing(PosixStore(config.store_dir)) as store,
        contextlib.closing(registry.create(config.kms, clock)) as kms,
    ):
        trouble: str | None = None
        try:
            kms.probe()
        except KmsUnavailableError as error:
            trouble = str(error)
        keyring = Keyring(store, kms)
        keys: list[dict[str, str | None]] = []
        for tenant in Vault(store, kms, clock).tenants():
            kek = keyring.known_kek(tenant)
            state = kms.state(kek).value if kek and trouble is None else None
            keys.append({"tenant": tenant, "kek": kek, "state": state})
        return KmsStatus(kms.name, trouble, tuple(keys))

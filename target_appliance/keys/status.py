"""``keys status``: the age and use of each tenant's KEK, and what is wrapped under which."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from common.clock import Clock
from common.errors import KeysapartError
from common.ids import TenantId
from target_appliance.recovery.vault import Vault

MOST_WRAPS: Final = 1 << 31
"""Half of what AES-GCM with random nonces bears under one key (NIST SP 800-38D)."""
MOST_DAYS: Final = 730
"""How long a key-wrapping key is to be used for wrapping at most (NIST SP 800-57 part 1, 5.3.6)."""
_DAY: Final = 86400


@dataclass(frozen=True, slots=True)
class KeyStatus:
    """One tenant's."""

    tenant: TenantId
    kms: str | None
    """Name of the KMS; None for the default one."""
    kek: str | None
    """None before its first use."""
    state: str | None
    """None when nobody knows."""
    since: int | None
    """Seconds since 1970-01-01 UTC; None when a release before this one made it."""
    age_days: int | None
    days_left: int | None
    """Until MOST_DAYS; negative when past."""
    wraps: int
    """Under the present KEK, at most; at least what is wrapped under it now."""
    wrapped_under: dict[str, int]
    """DEKs by KEK."""
    epochs: int
    """DEKs in all."""
    retired: tuple[str, ...]
    """KEKs that were the tenant's before and were not destroyed."""
    unfinished: bool
    """A rotation was cut: something is wrapped under a retired KEK."""

    @property
    def advice(self) -> str | None:
        """What should be done, if anything."""
        if self.unfinished:
            return f"a rotation was cut: run target-appliance keys rotate-kek {self.tenant}"
        if self.wraps >= MOST_WRAPS:
            return f"{self.wraps} keys were wrapped, too many for one: run keys rotate-kek {self.tenant}"
        if self.days_left is not None and self.days_left <= 0:
            return f"the key is in use for {self.age_days} days: run keys rotate-kek {self.tenant}"
        return None

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "tenant": self.tenant,
            "kms": self.kms,
            "kek": self.kek,
            "state": self.state,
            "since": None if self.since is None else datetime.fromtimestamp(self.since, UTC).isoformat(),
            "age_days": self.age_days,
            "days_left": self.days_left,
            "wraps": self.wraps,
            "wrapped_under": self.wrapped_under,
            "epochs": self.epochs,
            "retired": list(self.retired),
            "unfinished": self.unfinished,
            "advice": self.advice,
        }


def key_status(vault: Vault, tenant: TenantId, clock: Clock) -> KeyStatus:
    """What there is to know of a tenant's keys. A KMS that does not answer is no failure.

    Raises:
        DamagedError, StoreError: a key file cannot be read.
    """
    keys = vault.keyring.files.tenant(tenant)
    under = vault.keyring.files.wrapped_under(tenant)
    counts = {kek.kek_id: count for kek, count in under.items()}
    if keys is None:
        return KeyStatus(tenant, None, None, None, None, None, None, 0, counts, sum(counts.values()), (), bool(under))
    chosen = keys.chosen
    try:
        state: str | None = vault.keyring.directory.of(chosen.kms).state(chosen.kek_id).value
    except KeysapartError:
        state = None
    age = None if keys.since is None else (int(clock.now().timestamp()) - keys.since) // _DAY
    return KeyStatus(
        tenant=tenant,
        kms=chosen.kms,
        kek=chosen.kek_id,
        state=state,
        since=keys.since,
        age_days=age,
        days_left=None if age is None else MOST_DAYS - age,
        wraps=max(keys.wraps or 0, under.get(chosen, 0)),
        wrapped_under=counts,
        epochs=sum(counts.values()),
        retired=tuple(kek.kek_id for kek in keys.retired),
        unfinished=bool(set(under) - {chosen}),
    )

"""Every KMS of an appliance by its name. A tenant's keys lie with one of them, and no other ever stands in for it."""

from collections.abc import Callable, Mapping

from common.errors import KeyNotUsableError
from target_appliance.kms.port import Kms

DEFAULT = None
"""Name of the KMS of ``[kms]``: that of all tenants for which no other was chosen."""


class KmsDirectory:
    """The default KMS, and those of ``[kms_named]``. Owns them: ``close`` closes all."""

    def __init__(self, default: Kms, named: Mapping[str, Kms] | None = None) -> None:
        self.default = default
        self.named = dict(named or {})

    def each(self, around: Callable[[Kms], Kms]) -> "KmsDirectory":
        """The same, each KMS in what ``around`` makes of it."""
        return KmsDirectory(around(self.default), {name: around(kms) for name, kms in self.named.items()})

    def of(self, name: str | None) -> Kms:
        """The KMS of that name.

        Raises:
            KeyNotUsableError: the configuration does not name it (any more).
        """
        if name is DEFAULT:
            return self.default
        found = self.named.get(name)
        if found is None:
            raise KeyNotUsableError(
                f"keys lie with the KMS {name}, which this appliance's configuration does not name",
                subject=f"kms {name}",
                next_step=f"add a table [kms_named.{name}] to the configuration and restart the appliance",
            )
        return found

    def probes(self) -> dict[str, Callable[[], None]]:
        """The probe of each KMS by its name in logs: ``kms``, and ``kms/NAME`` for others."""
        return {"kms": self.default.probe, **{f"kms/{name}": kms.probe for name, kms in self.named.items()}}

    @property
    def named_probes(self) -> tuple[str, ...]:
        """Names in ``probes`` that concern some tenants only."""
        return tuple(f"kms/{name}" for name in self.named)

    def close(self) -> None:
        """Drop all connections; never raises."""
        for kms in (self.default, *self.named.values()):
            kms.close()

"""A key server that is set up at its first use: commands that need no key need no key server either."""

import threading
from collections.abc import Callable

from common.ids import TenantId
from target_appliance.kms.port import KekState, Kms, WrappedKey


class LazyKms:
    """See Kms. ``make`` is called once, at the first question; what it raises comes out there."""

    def __init__(self, make: Callable[[], Kms]) -> None:
        self._make = make
        self._made: Kms | None = None
        self._making = threading.Lock()

    def _kms(self) -> Kms:
        with self._making:
            if self._made is None:
                self._made = self._make()
            return self._made

    @property
    def name(self) -> str:
        """See Kms."""
        return self._kms().name

    def probe(self) -> None:
        """See Kms."""
        self._kms().probe()

    def create_kek(self, tenant: TenantId) -> str:
        """See Kms."""
        return self._kms().create_kek(tenant)

    def state(self, kek_id: str) -> KekState:
        """See Kms."""
        return self._kms().state(kek_id)

    def wrap(self, kek_id: str, dek: bytes, associated_data: bytes) -> WrappedKey:
        """See Kms."""
        return self._kms().wrap(kek_id, dek, associated_data)

    def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """See Kms."""
        return self._kms().unwrap(wrapped, associated_data)

    def destroy_kek(self, kek_id: str) -> None:
        """See Kms."""
        self._kms().destroy_kek(kek_id)

    def close(self) -> None:
        """See Kms."""
        if self._made is not None:
            self._made.close()

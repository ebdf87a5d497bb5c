"""A key server in this process's memory: the port's reference, for tests. Nothing survives the process."""

import dataclasses
import os
import threading
import uuid

from common.ids import TenantId
from target_appliance.kms.port import KekState, WrappedKey
from target_appliance.kms.software import SoftwareKek, not_active

_KEK_BYTES = 32


class MemoryKms:
    """Keys in a dict. The ``set_state`` door is what an administrator would do at a real server."""

    name = "memory (keys vanish with the process)"

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keks: dict[str, SoftwareKek] = {}

    def probe(self) -> None:
        """See Kms."""

    def create_kek(self, tenant: TenantId) -> str:
        """See Kms."""
        kek = SoftwareKek(str(uuid.uuid4()), f"keysapart-{tenant}", KekState.ACTIVE, os.urandom(_KEK_BYTES))
        with self._lock:
            self._keks[kek.kek_id] = kek
        return kek.kek_id

    def state(self, kek_id: str) -> KekState:
        """See Kms."""
        with self._lock:
            kek = self._keks.get(kek_id)
        return KekState.ABSENT if kek is None else kek.state

    def wrap(self, kek_id: str, dek: bytes, associated_data: bytes) -> WrappedKey:
        """See Kms."""
        return self._kek(kek_id).wrap(dek, associated_data)

    def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """See Kms."""
        return self._kek(wrapped.kek_id).unwrap(wrapped, associated_data)

    def destroy_kek(self, kek_id: str) -> None:
        """See Kms."""
        if kek_id in self._keks:
            self.set_state(kek_id, KekState.DESTROYED)

    def close(self) -> None:
        """See Kms."""

    def set_state(self, kek_id: str, state: KekState) -> None:
        """Move a key to ``state`` as its administrator would; DESTROYED drops its value for good."""
        with self._lock:
            value = b"" if state is KekState.DESTROYED else self._keks[kek_id].value
            self._keks[kek_id] = dataclasses.replace(self._keks[kek_id], state=state, value=value)

    def _kek(self, kek_id: str) -> SoftwareKek:
        with self._lock:
            kek = self._keks.get(kek_id)
        if kek is None:
            raise not_active(kek_id, KekState.ABSENT)
        return kek

"""Uses of keys as events: a KMS port that tells the audit log before it hands anything over."""

from common.ids import TenantId
from target_appliance.audit.event import BEGUN, Event, Fact, What, Who
from target_appliance.audit.log import AuditLog
from target_appliance.kms.port import KekState, Kms, WrappedKey
from target_appliance.seal.keys import proof_for, wrapped_for


class AuditedKms:
    """See Kms. Every method that makes or uses a key may raise StoreError and StoreFullError too: it cannot be told.

    A key's state is asked for at every turn and uses no key, so it is not told.
    """

    def __init__(self, kms: Kms, log: AuditLog) -> None:
        self._kms = kms
        self._log = log

    @property
    def name(self) -> str:
        """See Kms."""
        return self._kms.name

    def probe(self) -> None:
        """See Kms."""
        self._kms.probe()

    def create_kek(self, tenant: TenantId) -> str:
        """See Kms."""
        kek_id = self._kms.create_kek(tenant)
        who = self._log.who
        self._log.append(Event(What.KEK_CREATED, Who(who.role, who.actor, tenant), f"kek {kek_id}"))
        return kek_id

    def state(self, kek_id: str) -> KekState:
        """See Kms."""
        return self._kms.state(kek_id)

    def destroy_kek(self, kek_id: str) -> None:
        """See Kms. Told before it is done, since it cannot be undone."""
        self._log.append(Event(What.KEK_DESTROYED, self._log.who, f"kek {kek_id}", BEGUN))
        self._kms.destroy_kek(kek_id)
        self._log.append(Event(What.KEK_DESTROYED, self._log.who, f"kek {kek_id}"))

    def wrap(self, kek_id: str, dek: bytes, associated_data: bytes) -> WrappedKey:
        """See Kms."""
        wrapped = self._kms.wrap(kek_id, dek, associated_data)
        self._tell(What.DEK_WRAPPED, What.KEK_CLAIMED, kek_id, associated_data)
        return wrapped

    def unwrap(self, wrapped: WrappedKey, associated_data: bytes) -> bytes:
        """See Kms."""
        value = self._kms.unwrap(wrapped, associated_data)
        self._tell(What.DEK_UNWRAPPED, What.KEK_SHOWN, wrapped.kek_id, associated_data)
        return value

    def close(self) -> None:
        """See Kms."""
        self._kms.close()

    def _tell(self, what: What, of_kek: What, kek_id: str, context: bytes) -> None:
        who, whose, tenant = self._log.who, wrapped_for(context), proof_for(context)
        facts: dict[str, Fact] = {}
        if tenant is not None:
            what = of_kek
        elif whose is not None:
            tenant, facts = whose.tenant, {"replica": whose.replica, "disk": whose.disk, "epoch": whose.epoch}
        self._log.append(Event(what, Who(who.role, who.actor, tenant), f"kek {kek_id}", facts=facts))

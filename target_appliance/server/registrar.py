"""Letting agents in: for a pairing line, and again before their certificates end."""

from dataclasses import dataclass, field

from common.clock import Clock
from common.errors import PreconditionError
from common.ids import AgentId, TenantId
from target_appliance.audit.event import Event, Fact, What, Who
from target_appliance.audit.recorder import Recorder
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.model import AgentRow
from target_appliance.catalog.register import agent_row
from target_appliance.identity.authn import Identity, identify
from target_appliance.identity.authority import Authority
from target_appliance.identity.certificates import PublicKey
from target_appliance.identity.names import Role
from target_appliance.identity.requests import requested_key


@dataclass(frozen=True, slots=True)
class Admitted:
    """What an agent is told."""

    row: AgentRow
    certificate_pem: bytes
    authorities_pem: bytes


@dataclass(frozen=True)
class Registrar:
    """What lets agents in; all of it the caller's."""

    authority: Authority
    catalog: Catalog
    clock: Clock
    recorder: Recorder
    seen: dict[AgentId, int] = field(default_factory=dict)
    """Serial numbers of certificates of tenants' own authorities that were let in, by caller; the catalog bounds it."""

    def pair(self, token: bytes, key: PublicKey, peer: str) -> Admitted:
        """Trade ``token`` for a certificate of ``key``.

        Raises:
            AccessDeniedError: the token does not count; the message is for the log.
            StoreError, StoreFullError: catalog or audit log cannot be written; the token still counts.
        """
        pem = b""

        def issue(tenant: TenantId, agent: AgentId) -> AgentRow:
            nonlocal pem
            pem, row = self._certified(tenant, agent, key)
            # Told before it is so: nobody comes in unseen.
            who, facts = Who(Role.AGENT, agent, tenant), {"peer": peer, "certificate": row.fingerprint}
            self.recorder.record(Event(What.AGENT_PAIRED, who, f"agent {agent}", facts=facts), strict=True)
            return row

        return Admitted(self.catalog.pair(token, issue), pem, self.authority.held.bundle_pem)

    def renew(self, caller: Identity, request: bytes) -> Admitted:
        """A new certificate for ``caller``, whatever names the request bears.

        Raises:
            InvalidInputError: the request is none, or for a weak key.
            AccessDeniedError: the agent was revoked meanwhile.
            PreconditionError: its tenant's own authority issued its certificate, and has to issue the next one.
        """
        if caller.foreign:
            raise PreconditionError(
                "the certificate is not of the appliance's authority",
                subject=f"agent {caller.agent}",
                next_step="have the authority that issued it issue a new one",
            )
        pem, row = self._certified(caller.tenant, caller.agent, requested_key(request))
        self.catalog.put_agent(row)
        return Admitted(row, pem, self.authority.held.bundle_pem)

    def admit(self, identity: Identity, certificate_pem: bytes) -> None:
        """Return if the caller is let in; one that its tenant's own authority vouches for registers itself by coming.

        Raises:
            CertificateError: it is not registered, or was revoked.
            AccessDeniedError: its tenant is suspended.
            LimitExceededError: its tenant's authority vouches for too many.
        """
        if identity.foreign and self.seen.get(identity.agent) != identity.serial:
            self._welcome(identity, certificate_pem)
        self.catalog.admit(identity)

    def _welcome(self, identity: Identity, certificate_pem: bytes) -> None:
        self.authority.refuse_withdrawn(identity.agent)
        row = agent_row(identity, certificate_pem)
        if self.catalog.welcome(row):
            facts: dict[str, Fact] = {"certificate": row.fingerprint, "authority": "the tenant's own"}
            who = Who(identity.role, identity.agent, identity.tenant)
            self.recorder.record(Event(What.AGENT_PAIRED, who, f"agent {identity.agent}", facts=facts), strict=False)
        self.seen[identity.agent] = identity.serial

    def _certified(self, tenant: TenantId, agent: AgentId, key: PublicKey) -> tuple[bytes, AgentRow]:
        pem = self.authority.certify_agent(tenant, agent, key)
        return pem, agent_row(identify(pem, self.authority.trust, self.clock.now()), pem)

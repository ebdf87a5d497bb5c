"""Who may read a live view: whoever reaches a private socket, and by TLS the operators of the replica's tenant."""

import hashlib
import os
import ssl
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from common.clock import Clock
from common.errors import AccessDeniedError, KeysapartError, NotFoundError
from common.ids import PointNumber, ReplicaId, TenantId
from target_appliance.audit.event import Event, Fact, What, Who
from target_appliance.audit.recorder import Recorder
from target_appliance.identity.authn import Identity, identify
from target_appliance.identity.authority import Authority
from target_appliance.identity.names import Role
from target_appliance.present.disk import LiveDisk
from target_appliance.present.handshake import through_tls
from target_appliance.present.line import Line
from target_appliance.server.standing import Standing


class Local:
    """See Door and Caller. Everybody who can reach the socket: its owner. The audit log knows of the command."""

    name = "local"

    def enter(self, _line: Line, _peer: str, /) -> "Local":
        """See Door."""
        return self

    def begin(self, disk: LiveDisk) -> None:
        """See Caller."""

    def require(self) -> None:
        """See Caller."""


@dataclass(frozen=True)
class Shown:
    """What is shown, of whom."""

    tenant: TenantId
    replica: ReplicaId
    point: PointNumber


@dataclass
class Operators:
    """See Door. Lets in operators of the tenant whose replica is shown, as long as the data port would.

    Thread-safe; all of it the caller's.
    """

    shown: Shown
    authority: Authority
    names: Sequence[str]
    """Of the server's certificate."""
    admit_identity: Callable[[Identity], None]
    """Raises CertificateError, AccessDeniedError, StoreError: see Catalog.admit."""
    clock: Clock
    recorder: Recorder
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def enter(self, line: Line, peer: str, /) -> "Operator | None":
        """See Door."""
        certificate = through_tls(line, self._context)
        return None if certificate is None else self._admit(certificate, peer)

    def _context(self) -> ssl.SSLContext:
        """Made anew each time, because certificates are renewed and authorities changed."""
        with self._lock:
            self.authority.refresh()
            own, held = self.authority.server(self.names), self.authority.held
            clients = self.authority.clients_pem
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.num_tickets = 0
        context.load_verify_locations(cadata=clients.decode("ascii"))
        _load_chain(context, own.certificate_pem + held.shown_pem + own.key_pem)
        return context

    def _admit(self, certificate: bytes, peer: str) -> "Operator":
        facts: dict[str, Fact] = {"peer": peer, "certificate": hashlib.sha256(certificate).hexdigest()}
        try:
            return Operator(self, Standing(lambda: self._identity(certificate), self.clock), facts)
        except KeysapartError as error:
            who = Who("stranger", f"certificate {facts['certificate']}")
            told = {**facts, "cause": error.message}
            self.recorder.refused(Event(What.REFUSED, who, f"replica {self.shown.replica}", error.reason, told))
            raise

    def _identity(self, certificate: bytes) -> Identity:
        with self._lock:
            self.authority.refresh()
        identity = identify(certificate, self.authority.trust, self.clock.now())
        self.admit_identity(identity)
        if identity.tenant != self.shown.tenant:
            raise NotFoundError(
                f"tenant {identity.tenant} has no such replica",
                subject=f"operator {identity.agent}",
                next_step="use the certificate of an operator of the tenant whose replica it is",
            )
        if identity.role is not Role.OPERATOR:
            raise AccessDeniedError(
                f"a certificate for the role {identity.role} reads nothing back",
                subject=f"{identity.role} {identity.agent}",
                next_step="use one that target-appliance operators add has issued",
            )
        return identity


@dataclass
class Operator:
    """See Caller."""

    gate: Operators
    standing: Standing
    facts: dict[str, Fact]

    @property
    def name(self) -> str:
        """See Caller."""
        return f"operator {self.standing.identity.agent}"

    def begin(self, disk: LiveDisk) -> None:
        """See Caller."""
        shown, identity = self.gate.shown, self.standing.identity
        who = Who(identity.role.value, identity.agent, identity.tenant)
        facts = {**self.facts, "point": shown.point, "export": disk.name}
        self.gate.recorder.record(Event(What.DISK_READ, who, f"replica {shown.replica}", facts=facts), strict=True)

    def require(self) -> None:
        """See Caller."""
        self.standing.require()


def _load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """Python takes certificate and key from a file alone: this one is memory, and gone when it is read."""
    handle = os.memfd_create("chain", os.MFD_CLOEXEC)
    try:
        os.write(handle, pem)
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)

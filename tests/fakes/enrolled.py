"""An enrolment port in this process, and tokens for it."""

import secrets
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from common.clock import Clock
from common.pairing_line import PairingLine
from common.wire.v1 import enrollment_pb2_grpc as services
from target_appliance.audit.log import AuditLog
from target_appliance.audit.recorder import Recorder
from target_appliance.catalog.catalog import Catalog
from target_appliance.identity.authority import Authority
from target_appliance.server.attempts import Rates
from target_appliance.server.credentials import ServerCredentials
from target_appliance.server.enrollment import enrollment_port
from target_appliance.server.registrar import Registrar

GENEROUS = Rates(peer_burst=1e6, all_burst=1e6)


@dataclass
class Enrolled:
    """An open port."""

    registrar: Registrar
    port: int

    @property
    def authority(self) -> Authority:
        """Of the appliance."""
        return self.registrar.authority

    @property
    def catalog(self) -> Catalog:
        """Of the appliance."""
        return self.registrar.catalog

    def token(self, tenant: str = "acme", agent: str | None = None, valid: int = 3600) -> bytes:
        """A token that counts."""
        token = secrets.token_bytes(32)
        self.catalog.add_pairing(token, tenant, agent or str(uuid.uuid4()), valid)
        return token

    def line(self, token: bytes) -> PairingLine:
        """The line for it."""
        return PairingLine(f"localhost:{self.port}", token, self.authority.fingerprint)

    @contextmanager
    def stub(self) -> Iterator[services.EnrollmentStub]:
        """A client that trusts the port."""
        credentials = grpc.ssl_channel_credentials(self.authority.ca_pem)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        with grpc.secure_channel(f"localhost:{self.port}", credentials, options) as channel:
            yield services.EnrollmentStub(channel)


@contextmanager
def enrolling(folder: Path, clock: Clock, rates: Rates = GENEROUS) -> Iterator[Enrolled]:
    """A port with a tenant ``acme``."""
    with ExitStack() as life:
        authority = Authority.create(folder / "authority", "keysapart.lab", clock)
        catalog = life.enter_context(Catalog.open(f"sqlite:///{folder / 'catalog.sqlite'}", clock))
        catalog.add_tenant("acme")
        registrar = Registrar(authority, catalog, clock, Recorder(AuditLog(folder / "audit", clock), clock))
        shown = ServerCredentials(authority, ["localhost", "127.0.0.1"], clock).asking_nobody()
        port = life.enter_context(enrollment_port(registrar, "127.0.0.1:0", shown, folder, rates))
        yield Enrolled(registrar, port.port)

"""A whole appliance in this process, over real mutual TLS: store and KMS in memory, everything else as it is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.clock import SystemClock
from common.ids import AgentId, TenantId
from common.tls import TlsFiles, load_identity
from source_agent.stream.channel import Target
from target_appliance.audit.keys import AuditedKms
from target_appliance.audit.log import AuditLog
from target_appliance.audit.recorder import Recorder
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.register import agent_row
from target_appliance.config import Limits
from target_appliance.identity.authn import identify
from target_appliance.identity.authority import Authority
from target_appliance.identity.names import Role
from target_appliance.kms.memory import MemoryKms
from target_appliance.receive.desk import SyncDesk
from target_appliance.recovery.vault import Vault
from target_appliance.server.credentials import ServerCredentials
from target_appliance.server.serve import Behind, data_port
from target_appliance.store.memory import MemoryStore
from target_appliance.store.port import Store

PARK_SECONDS = 3600.0


@dataclass
class Served:
    """A serving appliance, with doors to what is behind it."""

    folder: Path
    address: str
    desk: SyncDesk
    behind: Behind
    kms: MemoryKms
    store: Store

    def admit(self, tenant: str, agent: str, role: Role = Role.AGENT) -> TlsFiles:
        """Files of a new caller of ``tenant``."""
        clock = SystemClock()
        self.behind.catalog.add_tenant(TenantId(tenant))
        issued = self.behind.authority.issue_agent(TenantId(tenant), AgentId(agent), role)
        row = agent_row(
            identify(issued.certificate_pem, self.behind.authority.trust, clock.now()), issued.certificate_pem
        )
        self.behind.catalog.put_agent(row)
        folder = self.folder / agent
        folder.mkdir()
        files = TlsFiles(folder / "ca.crt", folder / "agent.crt", folder / "agent.key")
        files.ca.write_bytes(self.behind.authority.ca_pem)
        files.certificate.write_bytes(issued.certificate_pem)
        files.key.write_bytes(issued.key_pem)
        return files

    def target(self, files: TlsFiles) -> Target:
        """A client with these files; the caller closes it."""
        return Target(self.address, load_identity(files, SystemClock()))


@contextmanager
def served(
    folder: Path, *, store: Store | None = None, kms: MemoryKms | None = None, limits: Limits | None = None
) -> Iterator[Served]:
    """Serve while the block runs."""
    clock = SystemClock()
    kms = kms or MemoryKms()
    store = store or MemoryStore()
    authority = Authority.create(folder / "authority", "keysapart.test", clock)
    with Catalog.open(f"sqlite:///{folder / 'catalog.sqlite'}", clock) as catalog:
        recorder = Recorder(AuditLog(folder / "audit", clock), clock)
        vault = Vault(store, AuditedKms(kms, recorder.log), clock)
        behind = Behind(
            vault,
            catalog,
            authority,
            clock,
            limits or Limits(),
            PARK_SECONDS,
            ServerCredentials(authority, ("127.0.0.1",), clock),
            recorder,
        )
        with data_port(behind, "127.0.0.1:0") as port:
            yield Served(folder, f"127.0.0.1:{port.port}", port.desk, behind, kms, store)

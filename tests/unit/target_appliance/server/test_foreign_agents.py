"""Agents of a tenant's own authority, over real mutual TLS."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from common.clock import SystemClock
from common.errors import AccessDeniedError, CertificateError, PreconditionError
from common.tls import TlsFiles, load_identity
from source_agent.pairing.enroll import new_key, request_for
from source_agent.stream.channel import Target
from target_appliance.catalog.model import TenantRow
from target_appliance.identity.certificates import make_authority
from target_appliance.identity.names import agent_uri
from tests.fakes.served import Served, served
from tests.unit.target_appliance.identity.forge import Recipe, Signer, uri

AGENT = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
OURS = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
VM = "cccccccc-cccc-4ccc-8ccc-cccccccccccc"
NOW = SystemClock().now()
THEIRS = make_authority("customer.example", NOW)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    with served(tmp_path) as serving:
        serving.behind.catalog.add_tenant("acme")
        serving.behind.catalog.add_tenant("globex")
        yield serving


def target(server: Served, tenant: str, agent: str, days: int = 1) -> Target:
    """A client with a certificate of the tenant's own authority."""
    name = uri(agent_uri("keysapart.test", tenant, agent))
    certificate, key = Recipe(Signer.of(THEIRS), NOW, [name], lasts=timedelta(days=days)).sign()
    folder = server.folder / f"{tenant}-{agent}-{days}"
    folder.mkdir()
    files = TlsFiles(folder / "ca.crt", folder / "agent.crt", folder / "agent.key")
    files.ca.write_bytes(server.behind.authority.ca_pem)
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files.key.write_bytes(key_pem)
    return Target(server.address, load_identity(files, SystemClock()))


def entrust(server: Served) -> None:
    server.behind.authority.entrust("acme", "keysapart.test", THEIRS.certificate_pem)


def test_it_comes_in_as_soon_as_its_authority_counts_and_registers_itself(server: Served) -> None:
    with closing(target(server, "acme", AGENT)) as agent:
        with pytest.raises(CertificateError):
            agent.describe(VM)
        entrust(server)
        agent.reconnect()
        agent.describe(VM)
        (row,) = server.behind.catalog.agents("acme")
        assert row.agent == AGENT
        with pytest.raises(PreconditionError, match="not of the appliance's authority"):
            agent.renew_certificate(request_for(new_key()))
        with closing(target(server, "acme", AGENT, days=9)) as later:
            later.describe(VM)
        assert server.behind.catalog.agents("acme")[0].not_after > row.not_after
        server.behind.authority.distrust("acme")
        with pytest.raises(CertificateError):
            agent.describe(VM)


def test_it_is_nobody_elses_agent(server: Served) -> None:
    entrust(server)
    server.admit("globex", OURS)
    for tenant, agent in (("globex", AGENT), ("acme", OURS)):
        with closing(target(server, tenant, agent)) as forged, pytest.raises(CertificateError):
            forged.describe(VM)
    assert [row.agent for row in server.behind.catalog.agents("globex")] == [OURS]
    assert server.behind.catalog.agents("acme") == ()


def test_revocation_and_suspension_reach_it(server: Served) -> None:
    entrust(server)
    with closing(target(server, "acme", AGENT)) as agent:
        agent.describe(VM)
        server.behind.catalog.put_tenant(TenantRow("acme", suspended=1))
        with pytest.raises(AccessDeniedError):
            agent.describe(VM)
        server.behind.catalog.put_tenant(TenantRow("acme"))
        agent.describe(VM)
        server.behind.catalog.revoke_agent(AGENT)
        server.behind.authority.withdraw(AGENT)
        with pytest.raises(CertificateError):
            agent.describe(VM)
    with closing(target(server, "acme", AGENT, days=9)) as again, pytest.raises((CertificateError, AccessDeniedError)):
        again.describe(VM)

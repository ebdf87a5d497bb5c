"""Every bad certificate, shown to a real data port: none is let in, whether TLS refuses it or we do."""

import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from common.clock import SystemClock
from common.wire.v1 import replication_pb2 as wire
from common.wire.v1 import replication_pb2_grpc as services
from target_appliance.catalog.model import TenantRow
from target_appliance.identity.certificates import make_authority, make_server, make_signer
from target_appliance.identity.names import Role, agent_uri
from tests.fakes.served import Served, served
from tests.unit.target_appliance.identity.forge import (
    SERVER,
    Recipe,
    Signer,
    ed,
    flip_in_signature,
    k1,
    rsa_1024,
    uri,
    usage,
)

DOMAIN = "keysapart.test"
AGENT = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
OTHER = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
VM = "cccccccc-cccc-4ccc-8ccc-cccccccccccc"
NOW = SystemClock().now()
THEIRS = make_authority(DOMAIN, NOW)
PEM = serialization.Encoding.PEM


@dataclass
class Shown:
    """What a client shows."""

    chain: bytes
    key: bytes


@dataclass
class Bench:
    """A served appliance that has one agent, and its authority's key in the forger's hands."""

    server: Served

    @property
    def good(self) -> Recipe:
        return Recipe(Signer.of(self.server.behind.authority.held.ca), NOW, [uri(agent_uri(DOMAIN, "acme", AGENT))])

    def named(self, *names: str) -> Recipe:
        return self.good.but(names=[uri(name) for name in names])

    def code(self, shown: Shown | None) -> grpc.StatusCode:
        ca = self.server.behind.authority.ca_pem
        pair = (None, None) if shown is None else (shown.key, shown.chain)
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        with grpc.secure_channel(self.server.address, grpc.ssl_channel_credentials(ca, *pair), options) as channel:
            try:
                services.ReplicationStub(channel).DescribeReplica(wire.DescribeReplicaRequest(replica=VM), timeout=20)
            except grpc.RpcError as error:
                failure: Any = error
                return failure.code()
        return grpc.StatusCode.OK


def pem_key(key: Any) -> bytes:
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def shown(recipe: Recipe, *more: x509.Certificate) -> Shown:
    certificate, key = recipe.sign()
    return Shown(b"".join(one.public_bytes(PEM) for one in (certificate, *more)), pem_key(key))


def issued(made: Any) -> Shown:
    return Shown(made.certificate_pem, made.key_pem)


def altered(bench: Bench) -> Shown:
    certificate, key = bench.good.sign()
    der = flip_in_signature(certificate.public_bytes(PEM))
    return Shown(ssl.DER_cert_to_PEM_cert(der).encode(), pem_key(key))


def long_chain(bench: Bench) -> Shown:
    middle, key = bench.good.but(
        names=[uri(f"spiffe://{DOMAIN}")],
        constraints=x509.BasicConstraints(True, None),
        usage=usage(key_cert_sign=True),
    ).sign()
    return shown(bench.good.but(signer=Signer(middle, key)), middle)


def leaf_as_issuer(bench: Bench) -> Shown:
    """An agent that signs for another one."""
    certificate, key = bench.good.sign()
    forged = bench.named(agent_uri(DOMAIN, "globex", OTHER)).but(signer=Signer(certificate, key))
    return shown(forged, certificate)


def revoked(bench: Bench) -> Shown:
    files = bench.server.admit("acme", OTHER)
    bench.server.behind.catalog.revoke_agent(OTHER)
    return Shown(files.certificate.read_bytes(), files.key.read_bytes())


def suspended(bench: Bench) -> Shown:
    files = bench.server.admit("umbrella", OTHER.replace("b", "d"))
    bench.server.behind.catalog.put_tenant(TenantRow("umbrella", suspended=1))
    return Shown(files.certificate.read_bytes(), files.key.read_bytes())


def expired(bench: Bench) -> Shown:
    return shown(bench.good.but(starts=timedelta(days=-2)))


BAD: dict[str, Callable[[Bench], Shown | None]] = {
    "none": lambda _: None,
    "another authority of the same name": lambda bench: shown(bench.good.but(signer=Signer.of(THEIRS))),
    "self-signed": lambda bench: shown(bench.good.but(self_signed=True)),
    "expired": expired,
    "not yet valid": lambda bench: shown(bench.good.but(starts=timedelta(hours=1))),
    "an authority as leaf": lambda bench: issued(bench.server.behind.authority.held.ca),
    "a leaf that is an authority": lambda bench: shown(bench.good.but(constraints=x509.BasicConstraints(True, 0))),
    "no URI name": lambda bench: shown(bench.good.but(names=[x509.DNSName("agent.example")])),
    "no names": lambda bench: shown(bench.good.but(names=None)),
    "two URI names": lambda bench: shown(
        bench.named(agent_uri(DOMAIN, "acme", AGENT), agent_uri(DOMAIN, "globex", AGENT))
    ),
    "another trust domain": lambda bench: shown(bench.named(agent_uri("evil.test", "acme", AGENT))),
    "a name without a path": lambda bench: shown(bench.named(f"spiffe://{DOMAIN}")),
    "another tenant's name": lambda bench: shown(bench.named(agent_uri(DOMAIN, "globex", AGENT))),
    "an agent that is not registered": lambda bench: shown(bench.named(agent_uri(DOMAIN, "acme", OTHER))),
    "an operator's name for an agent's id": lambda bench: shown(
        bench.named(agent_uri(DOMAIN, "acme", AGENT, Role.OPERATOR))
    ),
    "serverAuth only": lambda bench: shown(bench.good.but(purposes=[SERVER])),
    "the server's own": lambda bench: issued(make_server(bench.server.behind.authority.held.ca, ["127.0.0.1"], NOW)),
    "the signer's": lambda bench: issued(
        make_signer(bench.server.behind.authority.held.ca, f"spiffe://{DOMAIN}/signer", NOW)
    ),
    "may sign certificates": lambda bench: shown(
        bench.good.but(usage=usage(digital_signature=True, key_cert_sign=True))
    ),
    "no key usage": lambda bench: shown(bench.good.but(usage=None)),
    "bad signature": altered,
    "RSA with 1024 bits": lambda bench: shown(bench.good.but(make_key=rsa_1024)),
    "another curve": lambda bench: shown(bench.good.but(make_key=k1)),
    "Ed25519": lambda bench: shown(bench.good.but(make_key=ed)),
    "over-long chain": long_chain,
    "a leaf as issuer": leaf_as_issuer,
    "revoked agent": revoked,
    "suspended tenant": suspended,
}
REFUSED = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with served(tmp_path_factory.mktemp("bad")) as server:
        server.admit("acme", AGENT)
        server.behind.catalog.add_tenant("globex")
        yield Bench(server)


def test_a_good_one_is_let_in(bench: Bench) -> None:
    assert bench.code(shown(bench.good)) is grpc.StatusCode.OK


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_a_bad_one_is_not(bench: Bench, make: Callable[[Bench], Shown | None]) -> None:
    assert bench.code(make(bench)) in REFUSED


def test_the_bar_is_met() -> None:
    assert len(BAD) >= 18


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_tls_is_not_spoken(bench: Bench, version: ssl.TLSVersion, tmp_path: Path) -> None:
    one = shown(bench.good)
    (tmp_path / "pair.pem").write_bytes(one.chain + one.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.load_cert_chain(tmp_path / "pair.pem")
    host, _, port = bench.server.address.partition(":")
    with (
        socket.create_connection((host, int(port)), timeout=20) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(plain).recv(1)

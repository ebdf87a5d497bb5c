"""The enrolment port over real TLS and gRPC."""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from common.clock import SystemClock
from common.wire.v1 import enrollment_pb2 as wire
from common.wire.v1 import replication_pb2 as data_wire
from common.wire.v1 import replication_pb2_grpc as data_services
from source_agent.pairing.enroll import new_key, request_for
from target_appliance.catalog.model import TenantRow
from target_appliance.identity.authn import identify
from target_appliance.server.attempts import Rates
from tests.fakes.enrolled import Enrolled, enrolling

TRIES = 100
AGENT = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"


@pytest.fixture
def enrolled(tmp_path: Path) -> Iterator[Enrolled]:
    with enrolling(tmp_path, SystemClock()) as made:
        yield made


def ask(enrolled: Enrolled, token: bytes, request: bytes | None = None) -> wire.EnrollResponse | grpc.RpcError:
    with enrolled.stub() as stub:
        try:
            return stub.Enroll(wire.EnrollRequest(token=token, request=request or request_for(new_key())), timeout=20)
        except grpc.RpcError as error:
            return error


def told(error: object) -> tuple[object, ...]:
    """All that a refusal tells."""
    assert isinstance(error, grpc.RpcError), error
    return error.code(), error.details(), sorted((key, bytes(str(v), "utf-8")) for key, v in error.trailing_metadata())


def test_a_token_brings_its_own_agent_in_whatever_the_request_says(enrolled: Enrolled) -> None:
    key = new_key()
    evil = x509.UniformResourceIdentifier("spiffe://keysapart.lab/tenant/globex/agent/" + AGENT)
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "globex")]))
        .add_extension(x509.SubjectAlternativeName([evil, x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
    answer = ask(enrolled, enrolled.token(agent=AGENT), request)
    assert isinstance(answer, wire.EnrollResponse), answer
    identity = identify(answer.certificate, enrolled.authority.trust, SystemClock().now())
    assert (identity.tenant, identity.agent) == ("acme", AGENT)
    names = (
        x509.load_pem_x509_certificate(answer.certificate)
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    assert [name.value for name in names] == [f"spiffe://keysapart.lab/tenant/acme/agent/{AGENT}"]
    enrolled.catalog.admit(identity)
    assert answer.authorities == enrolled.authority.ca_pem


def test_of_a_hundred_at_once_exactly_one_pairs(enrolled: Enrolled) -> None:
    token = enrolled.token()
    ready = threading.Barrier(TRIES)

    def once(_number: int) -> str:
        ready.wait(60)
        answer = ask(enrolled, token)
        return "paired" if isinstance(answer, wire.EnrollResponse) else str(answer.code().name)

    with ThreadPoolExecutor(TRIES) as pool:
        outcomes = Counter(pool.map(once, range(TRIES)))
    assert outcomes["paired"] == 1, outcomes
    # The rest lost the token, or a place: there are 32 for calls and 128 for connections.
    assert set(outcomes) <= {"paired", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}, outcomes
    assert outcomes["PERMISSION_DENIED"] > 0
    assert len(enrolled.catalog.agents("acme")) == 1
    assert told(ask(enrolled, token))[0] is grpc.StatusCode.PERMISSION_DENIED


def test_tokens_that_do_not_count_look_alike(
    enrolled: Enrolled, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    used = enrolled.token()
    assert isinstance(ask(enrolled, used), wire.EnrollResponse)
    good = enrolled.token()
    altered = bytes([good[0] ^ 1]) + good[1:]
    enrolled.catalog.add_tenant("globex")
    suspended = enrolled.token("globex")
    enrolled.catalog.put_tenant(TenantRow("globex", suspended=1))
    bad = {
        "used": used,
        "expired": enrolled.token(valid=-1),
        "altered": altered,
        "unknown": bytes(32),
        "short": good[:31],
        "long": good + b"\0",
        "none": b"",
        "suspended": suspended,
    }
    refusals = {why: told(ask(enrolled, token)) for why, token in bad.items()}
    assert set(map(repr, refusals.values())) == {repr(refusals["used"])}
    assert refusals["used"][0] is grpc.StatusCode.PERMISSION_DENIED
    assert len(enrolled.catalog.agents("acme")) == 1
    log = "".join(capfd.readouterr())
    chain = "".join(path.read_text() for path in (tmp_path / "audit").iterdir())
    assert chain.count('"agent-paired"') == 1
    assert '"what":"refused"' in chain
    assert good.hex() not in chain
    for reason in ("was used before", "has expired", "unknown, or was altered", "wrong length", "is suspended"):
        assert reason in log
    assert good.hex() not in log
    assert isinstance(ask(enrolled, good), wire.EnrollResponse)
    enrolled.catalog.put_tenant(TenantRow("globex"))
    assert isinstance(ask(enrolled, suspended), wire.EnrollResponse), "a suspension does not use a token up"


def test_a_replayed_enrolment_does_nothing(enrolled: Enrolled) -> None:
    token, request = enrolled.token(), request_for(new_key())
    assert isinstance(ask(enrolled, token, request), wire.EnrollResponse)
    before = enrolled.catalog.agents("acme")
    assert told(ask(enrolled, token, request))[0] is grpc.StatusCode.PERMISSION_DENIED
    assert enrolled.catalog.agents("acme") == before


def weak_request() -> bytes:
    key = rsa.generate_private_key(65537, 1024)  # noqa: S505  weak on purpose
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.DER)


def foreign_curve() -> bytes:
    return request_for(ec.generate_private_key(ec.SECP256K1()))


def unsigned() -> bytes:
    der = bytearray(request_for(new_key()))
    der[-1] ^= 1
    return bytes(der)


@pytest.mark.parametrize("make", [weak_request, foreign_curve, unsigned, lambda: b"\x30\x03abc", lambda: bytes(5000)])
def test_a_bad_request_is_refused_and_costs_no_token(enrolled: Enrolled, make: object) -> None:
    token = enrolled.token()
    assert told(ask(enrolled, token, make()))[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert isinstance(ask(enrolled, token), wire.EnrollResponse)


def test_too_long_a_message_is_refused(enrolled: Enrolled) -> None:
    assert told(ask(enrolled, bytes(1 << 20)))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_nothing_else_is_served_here(enrolled: Enrolled) -> None:
    credentials = grpc.ssl_channel_credentials(enrolled.authority.ca_pem)
    with grpc.secure_channel(f"localhost:{enrolled.port}", credentials) as channel:
        stub = data_services.ReplicationStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.DescribeReplica(data_wire.DescribeReplicaRequest(replica=AGENT), timeout=20)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_who_fails_too_often_has_to_wait_and_who_succeeds_has_not(tmp_path: Path) -> None:
    with enrolling(tmp_path, SystemClock(), Rates(peer_burst=3, peer_seconds=1e9)) as enrolled:
        for _ in range(5):
            assert isinstance(ask(enrolled, enrolled.token()), wire.EnrollResponse)
        codes = [told(ask(enrolled, bytes(32)))[0].name for _ in range(5)]
        assert codes == ["PERMISSION_DENIED"] * 3 + ["RESOURCE_EXHAUSTED"] * 2
        assert told(ask(enrolled, enrolled.token()))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_catalog_holds_no_token(enrolled: Enrolled, tmp_path: Path) -> None:
    token = enrolled.token()
    content = (tmp_path / "catalog.sqlite").read_bytes()
    assert token not in content
    assert token.hex().encode() not in content
    assert re.search(rb"[0-9a-f]{64}", content)

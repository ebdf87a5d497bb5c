"""The health port in the matrix: what anybody may ask there, and that no question names a tenant, a replica or a VM.

It is gRPC over HTTP/2 in the clear, and the only HTTP that the appliance speaks outside of mutual TLS.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from common.clock import SystemClock
from common.tls import TlsFiles, channel_credentials, load_identity
from target_appliance.server.rpc_policy import POLICY
from tests.end_to_end.pair import Appliance
from tests.end_to_end.waiting import until
from tests.isolation.at_rest import ABSENT_ID, REPLICAS, VMS, AtRest, made
from tests.isolation.http2 import GRPC, Fields, http1, http2
from tests.lab.ports import reserved

CHECK = "/grpc.health.v1.Health/Check"
SERVICES = {"", "kms", "kms-named", "store", "catalog", "replication", "certificate"}
NAMED_KMS = """
[kms_named.acme]
driver = "embedded"
[kms_named.acme.embedded]
file = "acme-kms.json"
passphrase_file = "passphrase"
"""
OWN = ("acme", REPLICAS["acme"], VMS["acme"], "kms/acme", "tenant/acme")
FOREIGN = ("rival", REPLICAS["rival"], VMS["rival"], "kms/rival", "tenant/rival")
ABSENT = ("nobody", ABSENT_ID, "vm99", "kms/nobody", "tenant/nobody")
MALFORMED = ("../../etc/passwd", "A" * 300, "\x00", "%2e%2e", "KMS", "kms/", " ", "acme\n")
METHODS = (b"GET", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT", b"ACME")
RPCS = sorted({*POLICY, "/grpc.health.v1.Health/List", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"})


@dataclass(frozen=True)
class Serving:
    """A serving appliance of two tenants, one of whose KMSs bears its name."""

    health: int
    at_rest: AtRest

    def check(self, service: str, *metadata: tuple[str, str]) -> tuple[object, ...]:
        """All that a caller without a certificate learns of a service, the name that he gave taken out."""
        with grpc.insecure_channel(f"127.0.0.1:{self.health}") as channel:
            try:
                answer, call = health_pb2_grpc.HealthStub(channel).Check.with_call(
                    health_pb2.HealthCheckRequest(service=service), timeout=20, metadata=metadata
                )
            except grpc.RpcError as error:
                return (error.code(), error.details(), error.trailing_metadata())
            return (answer.status, call.initial_metadata(), call.trailing_metadata())


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("health") / "appliance"
    site, agents = made(folder)
    for name in agents:
        site.done("operators", "add", name, "--out", folder / f"operator-{name}")
    with reserved(3) as (data, health, enrollment):
        config = site.folder / "appliance.toml"
        text = config.read_text().replace('data = "127.0.0.1:0"', f'data = "127.0.0.1:{data}"')
        text = text.replace('health = "127.0.0.1:0"', f'health = "127.0.0.1:{health}"')
        text = text.replace("127.0.0.1:7445", f"127.0.0.1:{enrollment}")
        config.write_text(text + NAMED_KMS)
        appliance = Appliance(config, ("127.0.0.1", health), folder.parent / "serve.log")
        try:
            found = Serving(health, AtRest(site, folder.parent, agents))
            ready = health_pb2.HealthCheckResponse.SERVING
            until("SERVING", lambda: all(found.check(name)[0] == ready for name in ("", "certificate")))
            yield found
        finally:
            appliance.stop()


def names_nothing(serving: Serving, answer: object) -> bool:
    """Whether none of both tenants' names is in an answer."""
    names = (*VMS, *VMS.values(), *REPLICAS.values(), *serving.at_rest.agents.values())
    return not any(name in repr(answer) for name in names)


def test_components_are_told_to_anybody_and_named_kmss_as_one(serving: Serving) -> None:
    for service in SERVICES:
        answer = serving.check(service)
        assert not isinstance(answer[0], grpc.StatusCode), (service, answer)
        assert names_nothing(serving, answer)


def test_every_other_name_is_one_answer(serving: Serving) -> None:
    answers = {serving.check(name) for name in (*OWN, *FOREIGN, *ABSENT, *MALFORMED)}
    ((code, _details, trailing),) = answers
    assert code is grpc.StatusCode.NOT_FOUND
    assert names_nothing(serving, answers)
    assert not trailing


def test_a_watch_tells_no_more_than_a_check(serving: Serving) -> None:
    told = set()
    with grpc.insecure_channel(f"127.0.0.1:{serving.health}") as channel:
        for name in (*OWN, *FOREIGN, *ABSENT, *MALFORMED):
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=name), timeout=20)
            told.add(next(watch).status)
            watch.cancel()
    assert told == {health_pb2.HealthCheckResponse.SERVICE_UNKNOWN}


@pytest.mark.parametrize(
    "said",
    [
        ("x-tenant", "acme"),
        ("authorization", "Bearer acme"),
        ("x-forwarded-client-cert", "URI=spiffe://keysapart.lab/tenant/acme/operator/" + ABSENT_ID),
    ],
    ids=lambda said: said[0],
)
def test_who_says_to_be_somebody_is_nobody(serving: Serving, said: tuple[str, str]) -> None:
    for service in ("kms", OWN[0], ABSENT[0]):
        assert serving.check(service, said) == serving.check(service)


@pytest.mark.parametrize("who", ["agent", "operator"])
@pytest.mark.parametrize("tenant", VMS)
def test_a_certificate_opens_nothing_here(serving: Serving, who: str, tenant: str) -> None:
    folder = serving.at_rest.site.folder / (tenant if who == "agent" else f"operator-{tenant}")
    files = TlsFiles(folder / "ca.crt", folder / f"{who}.crt", folder / f"{who}.key")
    credentials = channel_credentials(load_identity(files, SystemClock()))
    for service in ("", tenant):
        with (
            grpc.secure_channel(f"127.0.0.1:{serving.health}", credentials) as channel,
            pytest.raises(grpc.RpcError) as refused,
        ):
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert names_nothing(serving, refused.value.details())


def test_no_other_rpc_is_served(serving: Serving) -> None:
    answers = set()
    with grpc.insecure_channel(f"127.0.0.1:{serving.health}") as channel:
        for path in RPCS:
            with pytest.raises(grpc.RpcError) as refused:
                channel.unary_unary(path)(b"", timeout=20)
            answers.add((refused.value.code(), refused.value.details()))
    assert {code for code, _ in answers} == {grpc.StatusCode.UNIMPLEMENTED}
    assert names_nothing(serving, answers)


def test_the_hand_written_request_is_understood(serving: Serving) -> None:
    answer = http2(serving.health, b"POST", CHECK.encode())
    assert b"\x08\x01" in answer, "SERVING"
    assert b"grpc-status\x010" in answer


def test_every_other_path_is_one_answer(serving: Serving) -> None:
    names = (*OWN, *FOREIGN, *ABSENT, "", "metrics", "healthz", "../" * 20 + "etc/passwd", "A" * 300, "%00", "?", "#")
    paths = [f"/{name}".encode() for name in names]
    paths += [f"{CHECK}/{name}".encode() for name in names if name]
    paths += [f"{CHECK}?tenant={name}".encode() for name in (OWN[0], FOREIGN[0], ABSENT[0])]
    answers = {http2(serving.health, b"POST", path) for path in paths}
    assert len(answers) == 1, answers
    assert b"grpc-status\x0212" in answers.pop(), "UNIMPLEMENTED"


def test_every_other_method_is_refused_whatever_the_path(serving: Serving) -> None:
    fields: tuple[Fields, ...] = ((), GRPC, (*GRPC, (b"x-tenant", b"acme")))
    paths = [CHECK.encode(), *(f"/tenants/{name}".encode() for name in (OWN[1], FOREIGN[1], ABSENT[1]))]
    with ThreadPoolExecutor(16) as pool:  # gRPC takes its time to refuse, up to a second
        told = {
            method: [pool.submit(http2, serving.health, method, path, extra) for path in paths for extra in fields]
            for method in METHODS
        }
    for method, calls in told.items():
        answers = {call.result() for call in calls}
        assert len(answers) == 1, (method, answers)
        assert b"\x08\x01" not in answers.pop(), "it was told whether the appliance serves"


@pytest.mark.parametrize("method", [*METHODS, b"POST"])
def test_http_1_is_not_spoken(serving: Serving, method: bytes) -> None:
    names = (OWN[1], FOREIGN[1], ABSENT[1], "metrics")
    head = b" HTTP/1.1\r\nHost: localhost\r\nX-Tenant: acme\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    answers = {http1(serving.health, method + f" /{name}?tenant={name}".encode() + head) for name in names}
    assert len(answers) == 1, answers
    assert not answers.pop().startswith(b"HTTP/")


def test_nothing_that_was_asked_changed_anything(serving: Serving) -> None:
    before = serving.at_rest.of("acme") + serving.at_rest.of("rival")
    for name in (*OWN, *FOREIGN, *ABSENT, *MALFORMED):
        serving.check(name)
    http2(serving.health, b"DELETE", f"/tenants/{OWN[0]}".encode())
    assert serving.at_rest.of("acme") + serving.at_rest.of("rival") == before

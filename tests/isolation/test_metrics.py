"""The metrics port in the matrix: it is the provider's, names every tenant, and knows no role; so only loopback has it.

Whoever is on the appliance's own machine is told the same, whatever he says of himself; nobody is told more than the
labels, and nothing that is asked changes anything.
"""

import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.end_to_end.pair import Appliance
from tests.isolation.at_rest import ABSENT_ID, OWNERS, REPLICAS, VMS, AtRest, made
from tests.isolation.http2 import http1
from tests.lab.ports import reserved

LABELS = {"tenant", "replica", "vm", "certificate"}
METHODS = (b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE", b"CONNECT", b"ACME")
NAMES = ("acme", "rival", "nobody", REPLICAS["acme"], REPLICAS["rival"], ABSENT_ID, *VMS.values(), "vm99")
MALFORMED = (
    *(b"\0" * 300 + b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET / HTTP/1.1\r\nX\r\n\r\n"),
    *(b"GET /" + b"A" * 70_000 + b" HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    b"GET / HTTP/1.1\r\nContent-Length: -1\r\nConnection: close\r\n\r\n",
)
CHANGING = re.compile(r"_clock_ahead_seconds|_(process|point_age|store_free|certificate_days)")
"""What two readings may differ in."""


@dataclass(frozen=True)
class Serving:
    """An appliance of two tenants that tells its metrics."""

    metrics: int
    at_rest: AtRest
    appliance: Appliance

    def told(self, path: str = "/metrics", **said: str) -> str:
        """What a GET is answered, without what changes by itself."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.metrics}{path}", headers=said)
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310  as above
            text = answer.read().decode()
        return "\n".join(line for line in text.splitlines() if not CHANGING.search(line))


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("metrics") / "appliance"
    site, agents = made(folder)
    with reserved(3) as (data, enrollment, metrics):
        config = site.folder / "appliance.toml"
        text = config.read_text().replace('data = "127.0.0.1:0"', f'data = "127.0.0.1:{data}"')
        text = text.replace("127.0.0.1:7445", f"127.0.0.1:{enrollment}")
        config.write_text(text.replace("[listen]", f'[listen]\nmetrics = "127.0.0.1:{metrics}"'))
        appliance = Appliance(config, ("127.0.0.1", metrics), folder.parent / "serve.log")
        try:
            yield Serving(metrics, AtRest(site, folder.parent, agents), appliance)
        finally:
            appliance.stop()


def test_it_is_the_providers_and_names_every_tenant(serving: Serving) -> None:
    samples = [one for family in text_string_to_metric_families(serving.told()) for one in family.samples]
    assert {one.labels["tenant"] for one in samples if "tenant" in one.labels} == set(OWNERS)
    assert {label for one in samples for label in one.labels} <= LABELS


def test_nobody_outside_of_the_machine_has_it(serving: Serving) -> None:
    process = psutil.Process(serving.appliance.process.pid)
    heard = [one.laddr for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert {address.ip for address in heard if address.port == serving.metrics} == {"127.0.0.1"}


@pytest.mark.parametrize(
    "said",
    [
        {"X-Tenant": "acme"},
        {"Authorization": "Bearer acme"},
        {"X-Forwarded-For": "192.0.2.1"},
        {"X-Forwarded-Client-Cert": "URI=spiffe://keysapart.lab/tenant/acme/operator/" + ABSENT_ID},
        {"Host": "rival"},
    ],
    ids=lambda said: next(iter(said)),
)
def test_who_says_to_be_somebody_is_told_the_same(serving: Serving, said: dict[str, str]) -> None:
    assert serving.told(**said) == serving.told()


def test_no_path_or_query_tells_more(serving: Serving) -> None:
    whole = set(serving.told().splitlines())
    for name in (*NAMES, "../" * 20 + "etc/passwd", "A" * 300, "%00"):
        assert set(serving.told(f"/{name}?tenant={name}").splitlines()) == whole
    assert {serving.told(f"/metrics?name[]={name}") for name in NAMES} == {""}, "names of metrics, not of objects"


def test_no_certificate_counts_here(serving: Serving) -> None:
    for tenant in VMS:
        agent = serving.at_rest.site.folder / tenant
        context = ssl.create_default_context(cafile=str(agent / "ca.crt"))
        context.load_cert_chain(agent / "agent.crt", agent / "agent.key")
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(f"https://127.0.0.1:{serving.metrics}/metrics", timeout=20, context=context)


def test_no_secret_and_no_name_of_a_key_or_an_agent_is_told(serving: Serving) -> None:
    status = serving.at_rest.site.done("keys", "status")["tenants"]
    hidden = {*serving.at_rest.agents.values(), *(one["kek"] for one in status), str(serving.at_rest.site.folder)}
    assert None not in hidden
    told = serving.told()
    assert [name for name in hidden if name in told] == []


def test_nothing_that_is_asked_changes_anything(serving: Serving) -> None:
    before = serving.at_rest.of("acme") + serving.at_rest.of("rival")
    whole = serving.told()
    for method in METHODS:
        asked = [method + f" /{name} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode() for name in NAMES]
        answers = {re.sub(rb"Date: [^\r]*", b"", http1(serving.metrics, one)) for one in asked}
        assert len(answers) == 1, (method, answers)
    for request in MALFORMED:
        http1(serving.metrics, request)
    assert serving.told() == whole
    assert serving.at_rest.of("acme") + serving.at_rest.of("rival") == before
    assert "Traceback" not in Path(serving.appliance.log).read_text()

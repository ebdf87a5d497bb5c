"""A tenant's own authority vouches for that tenant, and for nobody else."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from common.errors import CertificateError, ConfigError, InvalidInputError, PreconditionError
from target_appliance.identity.authn import identify
from target_appliance.identity.authority import Authority
from target_appliance.identity.certificates import make_authority, make_server
from target_appliance.identity.names import Role, agent_uri
from tests.fakes.clock import START, ManualClock
from tests.unit.target_appliance.identity.forge import Recipe, Signer, rsa_1024, uri, usage

DOMAIN = "keysapart.lab"
AGENT = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
THEIRS = make_authority("customer.example", START)
GOOD = Recipe(Signer.of(THEIRS), START, [uri(agent_uri(DOMAIN, "acme", AGENT))])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority.create(tmp_path / "authority", DOMAIN, ManualClock())
    made.entrust("acme", DOMAIN, THEIRS.certificate_pem)
    return made


def test_it_vouches_for_agents_and_operators_of_its_tenant(authority: Authority) -> None:
    for role in Role:
        identity = identify(GOOD.but(names=[uri(agent_uri(DOMAIN, "acme", AGENT, role))]).pem(), authority.trust, START)
        assert (identity.tenant, identity.agent, identity.role, identity.foreign) == ("acme", AGENT, role, True)
    assert not identify(authority.issue_agent("acme", AGENT).certificate_pem, authority.trust, START).foreign


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (agent_uri(DOMAIN, "globex", AGENT), "vouches for no other tenant"),
        (agent_uri("customer.example", "acme", AGENT), "another trust domain"),
        (f"spiffe://{DOMAIN}/admin/{AGENT}", "not of the form"),
    ],
)
def test_it_vouches_for_nobody_else(authority: Authority, name: str, why: str) -> None:
    with pytest.raises(CertificateError, match=why):
        identify(GOOD.but(names=[uri(name)]).pem(), authority.trust, START)


def test_constraints_may_be_left_out_as_by_step_ca(authority: Authority) -> None:
    assert identify(GOOD.but(constraints=None).pem(), authority.trust, START).foreign


def test_leaf_rules_are_as_strict_as_for_our_own(authority: Authority) -> None:
    for bad in (
        GOOD.but(usage=usage(digital_signature=True, key_cert_sign=True)),
        GOOD.but(lasts=timedelta(minutes=1)),
        GOOD.but(make_key=rsa_1024),
    ):
        with pytest.raises(CertificateError):
            identify(bad.pem(), authority.trust, START)


def test_a_domain_of_its_own(authority: Authority) -> None:
    authority.entrust("acme", "customer.example", THEIRS.certificate_pem)
    name = uri(agent_uri("customer.example", "acme", AGENT))
    assert identify(GOOD.but(names=[name]).pem(), authority.trust, START).tenant == "acme"
    with pytest.raises(CertificateError, match="another trust domain"):
        identify(GOOD.pem(), authority.trust, START)


def test_another_process_takes_it_over_and_lets_it_go(authority: Authority, tmp_path: Path) -> None:
    serving = Authority.open(tmp_path / "authority", DOMAIN, ManualClock())
    assert identify(GOOD.pem(), serving.trust, START).foreign
    assert THEIRS.certificate_pem in serving.clients_pem
    assert THEIRS.certificate_pem not in serving.held.bundle_pem, "agents are not to trust it"
    assert authority.distrust("acme")
    assert not authority.distrust("acme")
    assert serving.refresh()
    with pytest.raises(CertificateError, match="did not issue it"):
        identify(GOOD.pem(), serving.trust, START)


def test_an_authority_vouches_for_one_tenant(authority: Authority) -> None:
    with pytest.raises(PreconditionError, match="vouches for tenant acme"):
        authority.entrust("globex", DOMAIN, THEIRS.certificate_pem)
    with pytest.raises(PreconditionError, match="the appliance's own"):
        authority.entrust("globex", DOMAIN, authority.ca_pem)


def leaf() -> bytes:
    return make_server(THEIRS, ["localhost"], START).certificate_pem


def weak() -> bytes:
    ca = GOOD.but(make_key=rsa_1024, constraints=x509.BasicConstraints(True, 0), usage=usage(key_cert_sign=True))
    return ca.pem()


def over() -> bytes:
    return make_authority("old.example", START - timedelta(days=4000)).certificate_pem


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: b"", "no certificate in PEM"),
        (lambda: b"x" * 100, "no certificate in PEM"),
        (leaf, "no certificate authority"),
        (weak, "1024 bits"),
        (over, "expired on"),
        (lambda: THEIRS.certificate_pem * 9, "more than 8"),
    ],
)
def test_what_is_no_authority_is_refused(authority: Authority, make: object, why: str) -> None:
    before = authority.trust
    with pytest.raises(InvalidInputError, match=why):
        authority.entrust("globex", DOMAIN, make())
    assert authority.trust == before


def test_an_authority_that_is_over_vouches_no_more(authority: Authority) -> None:
    later = START + timedelta(days=3660)
    with pytest.raises(CertificateError, match="did not issue it"):
        identify(replace(GOOD, now=later).pem(), authority.trust, later)


def test_a_damaged_file_is_told_and_nothing_changes(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "authority" / "trusted" / "acme.json").write_text("{}")
    with pytest.raises(ConfigError, match="tenants trust"):
        authority.refresh()
    assert identify(GOOD.pem(), authority.trust, START).foreign

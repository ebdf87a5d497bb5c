from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from common.errors import CertificateError
from target_appliance.identity.authn import Identity, Trust, identify
from target_appliance.identity.certificates import make_authority, make_server
from target_appliance.identity.names import agent_uri
from tests.fakes.clock import START
from tests.unit.target_appliance.identity.forge import (
    CLIENT,
    SERVER,
    Recipe,
    Signer,
    ed,
    flip_in_signature,
    k1,
    negative_serial,
    p256,
    rsa_1024,
    rsa_2048,
    uri,
    usage,
)

DOMAIN = "keysapart.lab"
AGENT = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
URI = agent_uri(DOMAIN, "acme", AGENT)
OURS = make_authority(DOMAIN, START)
THEIRS = make_authority(DOMAIN, START)
TRUST = Trust(DOMAIN, (OURS.certificate,))
GOOD = Recipe(Signer.of(OURS), START, [uri(URI)])


def named(*texts: str) -> Recipe:
    return GOOD.but(names=[uri(text) for text in texts])


def through_an_intermediate() -> bytes:
    middle, key = GOOD.but(
        names=[uri(f"spiffe://{DOMAIN}")],
        constraints=x509.BasicConstraints(True, None),
        usage=usage(key_cert_sign=True),
    ).sign()
    return GOOD.but(signer=Signer(middle, key)).pem()


def signed_with_sha1() -> bytes:
    # OpenSSL's default policy will not make such a signature any more: the algorithm identifiers are rewritten instead,
    # which the rule sees before any signature is checked.
    key = rsa.generate_private_key(65537, 2048)
    authority = Signer(
        GOOD.but(
            self_signed=True,
            make_key=lambda: key,
            constraints=x509.BasicConstraints(True, 0),
            names=[uri("spiffe://x")],
        ).sign()[0],
        key,
    )
    der = GOOD.but(signer=authority).sign()[0].public_bytes(serialization.Encoding.DER)
    sha256_rsa, sha1_rsa = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    assert der.count(sha256_rsa) == 2
    return der.replace(sha256_rsa, sha1_rsa)


def with_both_names_but_one_extension() -> bytes:
    return GOOD.but(names=[uri(URI), x509.DNSName("agent.example")]).pem()


BAD: list[tuple[str, Callable[[], bytes], str]] = [
    ("none", lambda: b"", "there is none"),
    ("garbage", lambda: b"\x30\x82garbage", "not an X.509 certificate"),
    ("broken PEM", lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not an X.509"),
    ("other authority", GOOD.but(signer=Signer.of(THEIRS)).pem, "did not issue it"),
    ("self-signed", GOOD.but(self_signed=True).pem, "did not issue it"),
    ("over-long chain", through_an_intermediate, "did not issue it"),
    ("bad signature", lambda: flip_in_signature(GOOD.pem()), "did not issue it"),
    ("negative serial", lambda: negative_serial(GOOD.pem()), "serial number is not positive"),
    ("expired", GOOD.but(starts=timedelta(days=-2)).pem, "expired at 2026-11-23 12:00 UTC"),
    ("not yet valid", GOOD.but(starts=timedelta(hours=1)).pem, "valid only from 2026-11-24 13:00 UTC"),
    ("authority as leaf", lambda: OURS.certificate_pem, "certificate authority's"),
    ("authority flag", GOOD.but(constraints=x509.BasicConstraints(True, 0)).pem, "certificate authority's"),
    ("no key usage", GOOD.but(usage=None).pem, "states no key usage"),
    ("key usage not critical", GOOD.but(usage_critical=False).pem, "not a critical digitalSignature"),
    ("no digitalSignature", GOOD.but(usage=usage(content_commitment=True)).pem, "not a critical digitalSignature"),
    ("may sign", GOOD.but(usage=usage(digital_signature=True, key_cert_sign=True)).pem, "may sign certificates"),
    ("may revoke", GOOD.but(usage=usage(digital_signature=True, crl_sign=True)).pem, "may sign certificates"),
    ("serverAuth only", GOOD.but(purposes=[SERVER]).pem, "lacks clientAuth or serverAuth"),
    ("clientAuth only", GOOD.but(purposes=[CLIENT]).pem, "lacks clientAuth or serverAuth"),
    ("no names", GOOD.but(names=None).pem, "no URI name"),
    ("DNS name only", GOOD.but(names=[x509.DNSName("agent.example")]).pem, "0 URI names"),
    ("two URI names", named(URI, agent_uri(DOMAIN, "globex", AGENT)).pem, "2 URI names"),
    ("the same URI twice", named(URI, URI).pem, "2 URI names"),
    ("other trust domain", named(agent_uri("evil.example", "acme", AGENT)).pem, "another trust domain"),
    ("longer trust domain", named(agent_uri(DOMAIN + ".evil", "acme", AGENT)).pem, "another trust domain"),
    ("trust domain with port", named(f"spiffe://{DOMAIN}:1/tenant/acme/agent/{AGENT}").pem, "another trust domain"),
    ("user in authority", named(f"spiffe://x@{DOMAIN}/tenant/acme/agent/{AGENT}").pem, "another trust domain"),
    ("no path", named(f"spiffe://{DOMAIN}").pem, "not of the form"),
    ("root path", named(f"spiffe://{DOMAIN}/").pem, "not of the form"),
    ("not SPIFFE", named(f"https://{DOMAIN}/tenant/acme/agent/{AGENT}").pem, "not a SPIFFE id"),
    ("scheme in capitals", named(URI.replace("spiffe", "SPIFFE")).pem, "not a SPIFFE id"),
    ("over-long name", named(URI + "a" * 2048).pem, "not a SPIFFE id"),
    ("other path", named(f"spiffe://{DOMAIN}/operator/{AGENT}").pem, "not of the form"),
    ("trailing slash", named(URI + "/").pem, "not of the form"),
    ("double slash", named(URI.replace("/tenant", "//tenant")).pem, "not of the form"),
    ("query", named(URI + "?tenant=globex").pem, "is wrong"),
    ("tenant of dots", named(f"spiffe://{DOMAIN}/tenant/../agent/{AGENT}").pem, "is not a tenant name"),
    ("encoded slash", named(f"spiffe://{DOMAIN}/tenant/a%2fb/agent/{AGENT}").pem, "is not a tenant name"),
    ("tenant in capitals", named(agent_uri(DOMAIN, "ACME", AGENT)).pem, "is not a tenant name"),
    ("empty tenant", named(agent_uri(DOMAIN, "", AGENT)).pem, "is not a tenant name"),
    ("agent not a UUID", named(agent_uri(DOMAIN, "acme", "agent-1")).pem, "is not a agent id"),
    ("RSA with 1024 bits", GOOD.but(make_key=rsa_1024).pem, "1024 bits"),
    ("other curve", GOOD.but(make_key=k1).pem, "neither RSA nor"),
    ("Ed25519", GOOD.but(make_key=ed).pem, "neither RSA nor"),
    ("SHA-1", signed_with_sha1, "weaker than SHA-256"),
    ("the server's own", lambda: make_server(OURS, ["localhost"], START).certificate_pem, "lacks clientAuth"),
]


@pytest.mark.parametrize(("make", "reason"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_certificate_is_refused_with_its_reason(make: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(CertificateError) as refused:
        identify(make(), TRUST, START)
    assert reason in refused.value.message
    assert refused.value.next_step


@pytest.mark.parametrize("make_key", [p256, rsa_2048])
def test_a_good_certificate_is_whom_it_names(make_key: Callable[[], object]) -> None:
    certificate, _ = GOOD.but(make_key=make_key).sign()
    expected = Identity("acme", AGENT, certificate.serial_number, certificate.not_valid_after_utc)
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER):
        assert identify(certificate.public_bytes(encoding), TRUST, START) == expected


def test_purposes_may_be_left_open_and_other_kinds_of_name_may_stand_beside() -> None:
    identify(GOOD.but(purposes=None).pem(), TRUST, START)
    identify(with_both_names_but_one_extension(), TRUST, START)


def test_validity_is_judged_by_the_clock_that_is_handed_in() -> None:
    pem = GOOD.pem()
    identify(pem, TRUST, START + timedelta(hours=23))
    with pytest.raises(CertificateError, match="expired"):
        identify(pem, TRUST, START + timedelta(days=1))
    with pytest.raises(CertificateError, match="valid only from"):
        identify(pem, TRUST, START - timedelta(minutes=6))


def test_old_and_new_authority_count_side_by_side() -> None:
    both = Trust(DOMAIN, (THEIRS.certificate, OURS.certificate))
    assert identify(GOOD.pem(), both, START).tenant == "acme"
    assert identify(GOOD.but(signer=Signer.of(THEIRS)).pem(), both, START).tenant == "acme"


@given(st.binary(max_size=600), st.integers(0, 10_000))
def test_no_bytes_bring_out_anything_but_the_refusal(junk: bytes, at: int) -> None:
    der = x509.load_pem_x509_certificate(PEM).public_bytes(serialization.Encoding.DER)
    cut = at % len(der)
    for mutant in (junk, der[:cut] + junk, der[:cut] + junk + der[cut + len(junk) :]):
        if mutant == der:
            continue
        with pytest.raises(CertificateError):
            identify(mutant, TRUST, START)


PEM = GOOD.pem()


def test_the_weak_hash_is_what_refuses_sha1() -> None:
    assert isinstance(x509.load_der_x509_certificate(signed_with_sha1()).signature_hash_algorithm, hashes.SHA1)

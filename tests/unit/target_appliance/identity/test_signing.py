import json
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from common.errors import CertificateError, DamagedError
from target_appliance.identity.authn import identify
from target_appliance.identity.authority import Authority
from target_appliance.identity.certificates import LEAF_LIFE
from target_appliance.identity.signing import Signer, check, fingerprint_of
from target_appliance.seal.selfcheck import canonical
from tests.fakes.clock import ManualClock

KIND = "evidence"
BODY = {"tenant": "acme", "points": [1, 2], "nothing": None}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def authority(tmp_path: Path, clock: ManualClock) -> Authority:
    return Authority.create(tmp_path / "authority", "keysapart.lab", clock)


def fingerprint(authority: Authority) -> str:
    return fingerprint_of(x509.load_pem_x509_certificate(authority.ca_pem))


def test_a_document_is_checked_with_the_fingerprint_alone(authority: Authority, clock: ManualClock) -> None:
    content = Signer(authority, clock).sign(KIND, BODY)
    clock.advance(LEAF_LIFE.total_seconds() * 5)  # long after its signer's certificate ended
    signed = check(content, KIND, [fingerprint(authority)])
    assert (signed.kind, signed.body) == (KIND, BODY)
    assert signed.time == ManualClock().now()


def test_every_byte_counts(authority: Authority, clock: ManualClock) -> None:
    content = Signer(authority, clock).sign(KIND, BODY)
    for place in range(len(content)):
        altered = bytearray(content)
        altered[place] ^= 1
        with pytest.raises((DamagedError, CertificateError)):
            check(bytes(altered), KIND, [fingerprint(authority)])
    for altered_whole in (content[:-1], content + b"\n", b"", b"[]\n", content.replace(b",", b", ", 1)):
        with pytest.raises(DamagedError):
            check(altered_whole, KIND, [fingerprint(authority)])


def test_a_document_of_one_kind_is_no_other(authority: Authority, clock: ManualClock) -> None:
    content = Signer(authority, clock).sign("receipt", BODY)
    with pytest.raises(DamagedError, match="another kind"):
        check(content, KIND, [fingerprint(authority)])
    renamed = json.loads(content) | {"kind": KIND}
    with pytest.raises(DamagedError, match="signature"):
        check(canonical(renamed) + b"\n", KIND, [fingerprint(authority)])


def test_another_authoritys_word_does_not_count(authority: Authority, clock: ManualClock, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other", "keysapart.lab", clock)
    content = Signer(other, clock).sign(KIND, BODY)
    with pytest.raises(CertificateError, match="another authority"):
        check(content, KIND, [fingerprint(authority)])
    mixed = json.loads(content)
    mixed["certificates"][1] = authority.ca_pem.decode()
    with pytest.raises(CertificateError, match="did not let"):
        check(canonical(mixed) + b"\n", KIND, [fingerprint(authority)])


def test_an_agents_certificate_signs_no_document(
    authority: Authority, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = authority.issue_agent("acme", "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa")
    monkeypatch.setattr(authority, "signer", lambda: agent)
    with pytest.raises(CertificateError, match="did not let"):
        check(Signer(authority, clock).sign(KIND, BODY), KIND, [fingerprint(authority)])


def test_a_time_outside_of_the_certificates_is_refused(authority: Authority, clock: ManualClock) -> None:
    signer = Signer(authority, clock)
    clock.advance((LEAF_LIFE + timedelta(days=1)).total_seconds())
    with pytest.raises(CertificateError, match="lives"):
        check(signer.sign(KIND, BODY), KIND, [fingerprint(authority)])


def test_the_key_is_kept_private_renewed_and_lets_nobody_in(
    authority: Authority, clock: ManualClock, tmp_path: Path
) -> None:
    first = authority.signer()
    path = tmp_path / "authority" / "signer.pem"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert authority.signer().certificate_pem == first.certificate_pem
    with pytest.raises(CertificateError):
        identify(first.certificate_pem, authority.trust, clock.now())
    clock.advance(LEAF_LIFE.total_seconds() * 0.7)
    assert authority.signer().certificate_pem != first.certificate_pem

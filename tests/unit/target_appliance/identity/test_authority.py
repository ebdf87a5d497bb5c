import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.verification import PolicyBuilder, Store

from common.errors import AlreadyExistsError, CertificateError, ConfigError, PreconditionError
from target_appliance.identity.authn import identify
from target_appliance.identity.authority import Authority
from target_appliance.identity.certificates import CA_LIFE, LEAF_LIFE, Issued
from tests.fakes.clock import ManualClock

DOMAIN = "keysapart.lab"
AGENT = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
NAMES = ("target.example", "127.0.0.1", "::1")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "authority"


@pytest.fixture
def authority(folder: Path, clock: ManualClock) -> Authority:
    return Authority.create(folder, DOMAIN, clock)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_keys_are_private_from_the_start(authority: Authority, folder: Path) -> None:
    authority.server(NAMES)
    assert mode(folder) == 0o700
    assert mode(folder.parent) == 0o700
    assert mode(folder / "ca.key") == 0o600
    assert mode(folder / "server.pem") == 0o600
    assert sorted(path.name for path in folder.parent.iterdir()) == ["authority"]


def test_an_authority_is_made_once(authority: Authority, folder: Path, clock: ManualClock) -> None:
    before = (folder / "ca.key").read_bytes()
    with pytest.raises(AlreadyExistsError):
        Authority.create(folder, DOMAIN, clock)
    assert (folder / "ca.key").read_bytes() == before


def test_it_opens_again_and_issues_what_it_identifies(authority: Authority, folder: Path, clock: ManualClock) -> None:
    issued = Authority.open(folder, DOMAIN, clock).issue_agent("acme", AGENT)
    identity = identify(issued.certificate_pem, authority.trust, clock.now())
    assert (identity.tenant, identity.agent) == ("acme", AGENT)
    assert list(authority.issued()) == [issued.certificate_pem]
    assert b"PRIVATE" not in issued.certificate_pem


def test_another_verifier_accepts_the_server_certificate(authority: Authority, clock: ManualClock) -> None:
    leaf = authority.server(NAMES).certificate
    roots = Store([x509.load_pem_x509_certificate(authority.ca_pem)])
    for name in (x509.DNSName("target.example"),):
        verifier = PolicyBuilder().store(roots).time(clock.now()).build_server_verifier(name)
        assert len(verifier.verify(leaf, [])) == 2


def test_a_tls_handshake_works_with_what_is_issued(folder: Path, tmp_path: Path) -> None:
    from common.clock import SystemClock

    authority = Authority.create(folder, DOMAIN, SystemClock())
    server, agent = authority.server(("localhost",)), authority.issue_agent("acme", AGENT)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.verify_mode = ssl.CERT_REQUIRED
    client_side = ssl.create_default_context(cadata=authority.ca_pem.decode())
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT
    server_side.verify_flags |= ssl.VERIFY_X509_STRICT
    server_side.load_verify_locations(cadata=authority.ca_pem.decode())
    for context, issued, name in ((server_side, server, "server"), (client_side, agent, "agent")):
        pem = tmp_path / f"{name}.pem"
        pem.write_bytes(issued.certificate_pem + issued.key_pem)
        context.load_cert_chain(pem)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname="localhost")
    wire = server_side.wrap_bio(to_server, to_client, server_side=True)
    pending = {client, wire}
    for _ in range(10):
        for side in (client, wire):
            try:
                side.do_handshake()
                pending.discard(side)
            except ssl.SSLWantReadError:
                pass
    assert not pending
    peer = wire.getpeercert(binary_form=True)
    assert identify(peer, authority.trust, SystemClock().now()).tenant == "acme"


def test_the_server_certificate_is_kept_until_it_must_change(
    authority: Authority, folder: Path, clock: ManualClock
) -> None:
    first = authority.server(NAMES)
    assert authority.server(NAMES) == first
    assert authority.server(tuple(reversed(NAMES))) == first
    moved = authority.server(("elsewhere.example",))
    assert moved.certificate.serial_number != first.certificate.serial_number
    clock.advance(LEAF_LIFE.total_seconds() * 2 / 3 + 60)
    renewed = authority.server(("elsewhere.example",))
    assert renewed.certificate.serial_number != moved.certificate.serial_number
    assert renewed.certificate.not_valid_after_utc > moved.certificate.not_valid_after_utc


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_damaged_server_file_is_replaced(authority: Authority, folder: Path, content: bytes) -> None:
    (folder / "server.pem").write_bytes(content)
    issued = authority.server(NAMES)
    assert serialization.load_pem_private_key(issued.key_pem, None).public_key() == issued.certificate.public_key()
    assert authority.server(NAMES) == issued


def test_a_foreign_server_certificate_is_replaced(authority: Authority, folder: Path, tmp_path: Path, clock) -> None:
    other = Authority.create(tmp_path / "other", DOMAIN, clock)
    other.server(NAMES)
    (folder / "server.pem").write_bytes((tmp_path / "other" / "server.pem").read_bytes())
    authority.server(NAMES).certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(authority.ca_pem))


def test_without_an_authority_the_remedy_is_init(folder: Path, clock: ManualClock) -> None:
    with pytest.raises(PreconditionError, match="holds no certificate authority") as refused:
        Authority.open(folder, DOMAIN, clock)
    assert "init" in refused.value.next_step


def test_a_changed_trust_domain_is_refused(authority: Authority, folder: Path, clock: ManualClock) -> None:
    with pytest.raises(ConfigError, match=r"trust_domain is other\.lab, .* spiffe://keysapart\.lab"):
        Authority.open(folder, "other.lab", clock)


@pytest.mark.parametrize("name", ["ca.crt", "ca.key"])
def test_an_unreadable_authority_is_refused(authority: Authority, folder: Path, clock: ManualClock, name: str) -> None:
    (folder / name).write_bytes(b"-----BEGIN nothing")
    with pytest.raises(CertificateError, match="cannot be used"):
        Authority.open(folder, DOMAIN, clock)


def test_a_key_of_another_authority_is_refused(authority: Authority, folder: Path, tmp_path: Path, clock) -> None:
    Authority.create(tmp_path / "other", DOMAIN, clock)
    (folder / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(CertificateError, match="key does not belong to its certificate"):
        Authority.open(folder, DOMAIN, clock)


def test_an_expired_authority_is_refused(authority: Authority, folder: Path, clock: ManualClock) -> None:
    clock.advance((CA_LIFE + timedelta(days=1)).total_seconds())
    with pytest.raises(CertificateError, match="expired"):
        Authority.open(folder, DOMAIN, clock)


def test_a_failed_init_leaves_nothing(tmp_path: Path, clock: ManualClock) -> None:
    parent = tmp_path / "state"
    parent.mkdir(mode=0o700)

    # A file where the folder's name would be taken between the check and the rename.
    class Blocking(ManualClock):
        def now(self):
            (parent / "authority").mkdir()
            (parent / "authority" / "occupied").touch()
            return super().now()

    with pytest.raises(OSError, match="not empty"):
        Authority.create(parent / "authority", DOMAIN, Blocking())
    assert [path.name for path in parent.iterdir()] == ["authority"]


def test_keys_do_not_show_in_representations(authority: Authority) -> None:
    issued = authority.issue_agent("acme", AGENT)
    assert "PRIVATE" not in repr(issued)
    assert repr(issued) == "Issued(certificate and key)"
    assert isinstance(issued, Issued)

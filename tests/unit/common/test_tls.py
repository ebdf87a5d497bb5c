"""What a handshake tells of a target, over a real one."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from common.clock import SystemClock
from common.errors import CertificateError, TargetUnavailableError
from common.tls import TlsFiles, explain_refusal, load_identity
from source_agent.pairing.enroll import key_pem, new_key
from tests.fakes.served import served

AGENT = "00000000-0000-4000-8000-00000000000a"


@pytest.fixture
def world(tmp_path):
    with served(tmp_path) as server:
        yield server, load_identity(server.admit("acme", AGENT), SystemClock())


def test_a_target_that_accepts_us_gives_no_reason(world):
    server, identity = world
    assert explain_refusal(server.address, identity) is None


def test_the_name_that_was_configured_counts_and_not_the_address(world):
    server, identity = world
    other = server.address.replace("127.0.0.1", "127.0.0.2")
    assert isinstance(explain_refusal(other, identity), CertificateError | TargetUnavailableError)
    assert isinstance(explain_refusal(server.address, identity, "dr.example"), CertificateError)
    assert explain_refusal(server.address, identity, "127.0.0.1") is None


def test_a_certificate_in_the_keys_file_counts_when_the_other_is_another_keys(tmp_path):
    # As after a renewal that was cut between the two files.
    with served(tmp_path) as server:
        old, new = (server.admit("acme", agent) for agent in (AGENT, AGENT.replace("a", "b")))
    both = new.key.read_bytes() + new.certificate.read_bytes()
    torn = TlsFiles(old.ca, old.certificate, tmp_path / "both.pem")
    torn.key.write_bytes(both)
    identity = load_identity(torn, SystemClock())
    assert identity.chain_file == torn.key
    assert identity.certificate == load_identity(new, SystemClock()).certificate
    gone = TlsFiles(old.ca, tmp_path / "gone.crt", torn.key)
    assert load_identity(gone, SystemClock()).certificate == identity.certificate
    with pytest.raises(CertificateError, match="is not the key of"):
        load_identity(TlsFiles(old.ca, old.certificate, new.key), SystemClock())


def test_of_two_certificates_of_a_key_the_one_that_lasts_longest_counts(tmp_path):
    key = new_key()
    paths = [tmp_path / name for name in ("short.crt", "long.crt")]
    for path, days in zip(paths, (1, 2), strict=True):
        path.write_bytes(_signed(key, days))
    both = tmp_path / "both.pem"
    for inside, beside in (paths, paths[::-1]):
        both.write_bytes(key_pem(key) + inside.read_bytes())
        identity = load_identity(TlsFiles(beside, beside, both), SystemClock())
        assert identity.certificate_pem == (key_pem(key) if inside == paths[1] else b"") + paths[1].read_bytes()


def _signed(key, days):
    now = SystemClock().now()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "agent")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

"""What a handshake tells of a target, over a real one."""

import pytest

from common.clock import SystemClock
from common.errors import CertificateError, TargetUnavailableError
from common.tls import explain_refusal, load_identity
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

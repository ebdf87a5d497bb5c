"""What every driver with a network must do when server or network misbehave: in time, in one sentence, well again."""

import contextlib
import os
import signal
import socket
import time

import psutil
import pytest

from common.clock import SystemClock
from common.errors import KeyNotUsableError, KmsUnavailableError
from target_appliance.kms.kmip.driver import KmipKms
from target_appliance.kms.link.pool import Deadlines
from target_appliance.kms.port import GONE, KekState
from target_appliance.kms.transit.driver import TransitKms
from tests.contracts.kms_worlds import kmip_settings
from tests.fakes.kmip_server import Rogue, cut, half, read_http, read_kmip, say, silent
from tests.lab.kmip import KmipSite
from tests.lab.openbao_site import OpenBaoSite
from tests.lab.pki import Authority

DEK = bytes(range(32))
QUICK = Deadlines(connect=1.0, call=2.0, idle=25.0)
SLACK = 4.0
"""What a busy machine may add to a deadline."""


class Kmip:
    """KMIP in front of PyKMIP's server."""

    Site = KmipSite
    read = staticmethod(read_kmip)
    half = staticmethod(half)

    @staticmethod
    def connect(site, **changes):
        return KmipKms(kmip_settings(site, **changes), SystemClock(), QUICK)


def _half_http(request, secure):
    secure.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"data": ')
    cut(request, secure)


class Transit:
    """Transit in front of OpenBao."""

    Site = OpenBaoSite
    read = staticmethod(read_http)
    half = staticmethod(_half_http)

    @staticmethod
    def connect(site, **changes):
        return TransitKms(site.settings(**changes), lambda: site.token, SystemClock(), QUICK)


@pytest.fixture(scope="module", params=[Kmip, Transit], ids=["kmip", "transit"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def site(kind, tmp_path_factory):
    with kind.Site(tmp_path_factory.mktemp("site")) as running:
        yield running


@pytest.fixture
def connect(kind, site):
    with contextlib.ExitStack() as made:

        def make(**changes):
            kms = kind.connect(changes.pop("site", site), **changes)
            made.callback(kms.close)
            return kms

        yield make


def reason(use, seconds=QUICK.call):
    """Why the KMS is unavailable: one sentence, in time."""
    began = time.monotonic()
    with pytest.raises(KmsUnavailableError) as refused:
        use()
    assert time.monotonic() - began < seconds + SLACK
    assert "\n" not in str(refused.value)
    assert "Traceback" not in str(refused.value)
    assert refused.value.retryable
    return refused.value.message


def uses(kms, kek, wrapped):
    return (
        kms.probe,
        lambda: kms.state(kek),
        lambda: kms.wrap(kek, DEK, b""),
        lambda: kms.unwrap(wrapped, b""),
        lambda: kms.create_kek("acme"),
        lambda: kms.destroy_kek(kek),
    )


def test_a_server_that_hangs_and_goes_on(site, connect):
    kms = connect()
    kek = kms.create_kek("acme")
    wrapped = kms.wrap(kek, DEK, b"")
    os.kill(site.pid, signal.SIGSTOP)
    try:
        while psutil.Process(site.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)  # a signal takes its time; the test's own deadline ends this
        for use in uses(kms, kek, wrapped):
            assert "does not answer in time" in reason(use)
    finally:
        os.kill(site.pid, signal.SIGCONT)
    assert kms.unwrap(wrapped, b"") == DEK
    assert kms.state(kek) is KekState.ACTIVE


def test_nobody_listens(connect, site):
    with socket.create_server(("127.0.0.1", 0)) as dead:
        endpoint = f"127.0.0.1:{dead.getsockname()[1]}"
    assert f"{endpoint}: Connection refused" in reason(connect(endpoints=(endpoint,)).probe)


def test_a_black_hole(connect):
    with socket.create_server(("127.0.0.1", 0)) as hole:
        kms = connect(endpoints=(f"127.0.0.1:{hole.getsockname()[1]}",))
        assert "does not answer in time" in reason(kms.probe)


def test_another_endpoint_takes_over(connect, site):
    with socket.create_server(("127.0.0.1", 0)) as hole:
        kms = connect(endpoints=(f"127.0.0.1:{hole.getsockname()[1]}", site.endpoint))
        kms.probe()
        kms.probe()


@pytest.mark.parametrize(
    ("how", "words"),
    [({"server_names": ("evil.example",)}, "mismatch"), ({"days": -1}, "expired")],
    ids=["another name", "expired"],
)
def test_a_certificate_that_is_not_the_servers_or_has_expired(kind, tmp_path, connect, how, words):
    with kind.Site(tmp_path / "bad", **how) as bad:
        kms = connect(site=bad)
        for _ in range(2):
            told = reason(kms.probe)
            assert "its certificate is refused" in told
            assert words in told


def test_another_authority(connect, tmp_path):
    other = Authority("somebody else", tmp_path / "other.crt")
    assert "its certificate is refused" in reason(connect(ca_file=str(other.certificate_file)).probe)


@pytest.mark.parametrize("fault", ["cut", "cut in the middle", "silent", "garbage"])
def test_answers_that_are_none(kind, tmp_path, connect, fault):
    answer, words = {
        "cut": (cut, "cut the connection"),
        "cut in the middle": (kind.half, "in the middle of an answer"),
        "silent": (silent, "does not answer in time"),
        "garbage": (say(bytes(range(64)) + b"\r\n\r\n"), "its answer is not"),
    }[fault]
    with Rogue(tmp_path, answer, read=kind.read) as rogue:
        kms = connect(endpoints=(rogue.endpoint,), ca_file=str(rogue.authority.certificate_file))
        assert words in reason(kms.probe)


def test_a_key_that_was_destroyed_at_the_server(site, connect):
    kms = connect()
    kek = kms.create_kek("acme")
    wrapped = kms.wrap(kek, DEK, b"")
    site.destroy(kek)
    assert kms.state(kek) in GONE
    for use in (lambda: kms.wrap(kek, DEK, b""), lambda: kms.unwrap(wrapped, b"")):
        with pytest.raises(KeyNotUsableError, match="at the KMS"):
            use()
    assert kms.state(kek) in GONE, "using it has not made it anew"

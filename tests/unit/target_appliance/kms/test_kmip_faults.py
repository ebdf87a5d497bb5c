"""The KMIP driver when server or network misbehave: bounded in time, one plain reason, well again by itself."""

import contextlib
import socket
import ssl
import time

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ConfigError, KmsUnavailableError
from target_appliance.kms.kmip import messages
from target_appliance.kms.kmip.messages import GarbledError, RefusedError
from target_appliance.kms.link.pool import Deadlines
from target_appliance.kms.port import KekState
from tests.contracts.kms_worlds import kmip_settings
from tests.fakes.clock import ManualClock
from tests.fakes.kmip_server import Op, Rogue, Sloppy, cut, half, say, silent, then, trickle
from tests.lab.kmip import KmipSite
from tests.lab.pki import Authority
from tests.unit.target_appliance.kms.conftest import QUICK

DEK = bytes(range(32))
SLACK = 2.0
"""What a busy machine may add to a deadline."""


@contextlib.contextmanager
def within(seconds):
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds + SLACK


def reason(use):
    with pytest.raises(KmsUnavailableError) as refused:
        use()
    assert "Traceback" not in refused.value.message
    assert "\n" not in str(refused.value)
    return refused.value.message


def of_site(connect, site, **changes):
    values = kmip_settings(site).model_dump()
    endpoints = changes.pop("endpoints", values.pop("endpoints"))
    values.pop("endpoints", None)
    return connect(*endpoints, **(values | changes))


def test_the_deadlines_of_the_product():
    assert Deadlines() == Deadlines(connect=5, call=10, idle=25)


def test_a_server_that_stops_and_comes_back(tmp_path, connect):
    with KmipSite(tmp_path / "kms") as site:
        kms = of_site(connect, site)
        kek = kms.create_kek("acme")
        wrapped = kms.wrap(kek, DEK, b"")
        site.stop()
        for use in (kms.probe, lambda: kms.state(kek), lambda: kms.unwrap(wrapped, b""), lambda: kms.create_kek("x")):
            with within(QUICK.connect):
                told = reason(use)
            assert site.endpoint in told
            assert "refused" in told
        site.start()
        assert kms.unwrap(wrapped, b"") == DEK
        assert kms.state(kek) is KekState.ACTIVE


def test_a_server_that_hangs_and_goes_on(tmp_path, connect):
    with KmipSite(tmp_path / "kms") as site:
        kms = of_site(connect, site)
        kms.probe()
        site.pause()
        while psutil.Process(site.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)  # a signal takes its time; the test's own deadline ends this
        with within(QUICK.call):
            assert "does not answer in time" in reason(kms.probe)
        site.resume()
        kms.probe()


def test_a_port_that_takes_connections_and_says_nothing(connect, tmp_path):
    authority = Authority("any", tmp_path / "ca.crt")
    with socket.create_server(("127.0.0.1", 0)) as blackhole:
        kms = connect(f"127.0.0.1:{blackhole.getsockname()[1]}", ca_file=authority.certificate_file)
        with within(QUICK.connect):
            assert "does not answer in time" in reason(kms.probe)


def test_connections_cut_while_idle_cost_nothing(tmp_path, connect):
    with KmipSite(tmp_path / "kms", idle_seconds=0.2) as site:
        kms = of_site(connect, site)
        kek = kms.create_kek("acme")
        for _ in range(3):
            time.sleep(0.5)  # the server's own clock decides when it hangs up
            assert kms.state(kek) is KekState.ACTIVE
        port, site_stopped = site.port, site.stop
        site_stopped()
        site.start()
        assert site.port == port
        assert kms.unwrap(kms.wrap(kek, DEK, b""), b"") == DEK


def test_a_connection_is_kept_for_25_seconds(tmp_path, connect):
    clock = ManualClock()
    with Rogue(tmp_path, Sloppy()) as rogue:
        kms = connect(rogue.endpoint, ca_file=rogue.authority.certificate_file, clock=clock)
        kms.probe()
        before = rogue.connections
        clock.advance(24.9)
        kms.probe()
        assert rogue.connections == before
        clock.advance(25)
        kms.probe()
        assert rogue.connections == before + 1


def test_another_authority_is_not_trusted(tmp_path, connect):
    with KmipSite(tmp_path / "kms") as site:
        other = Authority("somebody else", tmp_path / "other.crt")
        told = reason(of_site(connect, site, ca_file=str(other.certificate_file)).probe)
        assert "its certificate is refused" in told


@pytest.mark.parametrize("name", ["kms.example", "127.0.0.1", None])
def test_another_name_is_not_accepted(tmp_path, connect, name):
    with KmipSite(tmp_path / "kms", server_names=("evil.example",)) as site:
        told = reason(of_site(connect, site, server_name=name).probe)
        assert "its certificate is refused" in told
        assert "mismatch" in told


@pytest.mark.parametrize(("names", "name"), [(("kms.example",), "kms.example"), (("127.0.0.1",), None)])
def test_the_right_name_is_accepted(tmp_path, connect, names, name):
    with KmipSite(tmp_path / "kms", server_names=names) as site:
        of_site(connect, site, server_name=name).probe()


def test_a_server_that_refuses_our_certificate_says_so(tmp_path, connect):
    with KmipSite(tmp_path / "kms") as site:
        stranger = Authority("somebody else", tmp_path / "other.crt").issue_client(tmp_path / "stranger", "stranger")
        kms = of_site(connect, site, certificate_file=str(stranger.certificate_file), key_file=str(stranger.key_file))
        told = reason(kms.probe)
        assert "refuses this appliance's certificate" in told or "cut the connection" in told


def test_old_tls_is_not_spoken(tmp_path, connect):
    authority = Authority("old", tmp_path / "ca.crt")
    issued = authority.issue_server(tmp_path / "old")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate_file, issued.key_file)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with Rogue(tmp_path, Sloppy(), authority) as rogue:
        rogue._context = context
        kms = connect(rogue.endpoint, ca_file=authority.certificate_file)
        assert "TLS failed" in reason(kms.probe)
        assert rogue.requests == []


BAD_ANSWERS = {
    "garbage": (say(bytes(range(64))), "not KMIP"),
    "http": (say(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "not KMIP"),
    "empty message": (say(bytes.fromhex("42007b0100000000")), "not KMIP"),
    "garbage inside": (say(bytes.fromhex("42007b0100000010") + bytes(16)), "not KMIP"),
    "too long": (say(bytes.fromhex("42007b017fffffff")), "not KMIP"),
    "cut": (cut, "cut the connection"),
    "cut in the middle": (half, "in the middle of an answer"),
}


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_a_bad_answer_is_told_in_words(tmp_path, connect, kind):
    answer, words = BAD_ANSWERS[kind]
    with Rogue(tmp_path, answer) as rogue:
        kms = connect(rogue.endpoint, ca_file=rogue.authority.certificate_file)
        with within(QUICK.call):
            assert words in reason(kms.probe)


@pytest.mark.parametrize("answer", [silent, trickle])
def test_an_answer_that_never_ends_is_not_waited_for(tmp_path, connect, answer):
    with Rogue(tmp_path, answer) as rogue:
        kms = connect(rogue.endpoint, ca_file=rogue.authority.certificate_file)
        with within(QUICK.call):
            assert "does not answer in time" in reason(kms.probe)


@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_after_one_bad_answer_on_a_kept_connection_a_fresh_one_is_tried(tmp_path, connect, kind):
    server = Sloppy()
    with Rogue(tmp_path, server) as rogue:
        kms = connect(rogue.endpoint, ca_file=rogue.authority.certificate_file)
        kek = kms.create_kek("acme")
        rogue.answer = then(BAD_ANSWERS[kind][0], server)
        assert kms.state(kek) is KekState.ACTIVE


def test_a_key_is_not_made_twice(tmp_path, connect):
    server = Sloppy()
    with Rogue(tmp_path, server) as rogue:
        kms = connect(rogue.endpoint, ca_file=rogue.authority.certificate_file)
        kms.probe()
        rogue.answer = cut
        asked = len(rogue.requests)
        reason(lambda: kms.create_kek("acme"))
        assert len(rogue.requests) == asked + 1


def test_another_endpoint_takes_over_and_is_kept(tmp_path, connect):
    with KmipSite(tmp_path / "kms") as site, socket.create_server(("127.0.0.1", 0)) as dead:
        nobody = f"127.0.0.1:{dead.getsockname()[1]}"
        dead.close()
        kms = of_site(connect, site, endpoints=(nobody, site.endpoint))
        kek = kms.create_kek("acme")
        assert kms.state(kek) is KekState.ACTIVE
        site.stop()
        told = reason(kms.probe)
        assert nobody in told
        assert site.endpoint in told


def test_an_endpoint_that_hangs_leaves_time_for_the_next(tmp_path, connect):
    server = Sloppy()
    authority = Authority("both", tmp_path / "both.crt")
    with Rogue(tmp_path, silent, authority) as hanging, Rogue(tmp_path, server, authority) as good:
        kms = connect(hanging.endpoint, good.endpoint, ca_file=authority.certificate_file)
        with within(QUICK.call):
            kms.probe()
        asked = len(hanging.requests)
        kms.probe()
        assert len(hanging.requests) == asked, "the endpoint that works is asked first from now on"


def test_calls_go_on_after_close_but_nothing_is_kept(tmp_path, connect):
    with Rogue(tmp_path, Sloppy()) as rogue:
        kms = connect(rogue.endpoint, ca_file=rogue.authority.certificate_file)
        kms.close()
        kms.probe()
        before = rogue.connections
        kms.probe()
        assert rogue.connections == before + 1


@pytest.mark.parametrize("name", ["ca_file", "certificate_file", "key_file"])
@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_a_wrong_file_shows_at_the_start(tmp_path, connect, name, content):
    wrong = tmp_path / "wrong.pem"
    if content is not None:
        wrong.write_bytes(content)
    changes = {"ca_file": Authority("any", tmp_path / "ca.crt").certificate_file} | {name: str(wrong)}
    with pytest.raises(ConfigError) as refused:
        connect("127.0.0.1:1", **changes)
    assert ".pem" in refused.value.message or ".crt" in refused.value.message


def test_a_key_with_a_passphrase_asks_nobody(tmp_path, connect):
    from cryptography.hazmat.primitives import serialization

    issued = Authority("any", tmp_path / "ca.crt").issue_client(tmp_path / "own", "own")
    key = serialization.load_pem_private_key(issued.key_file.read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match="passphrase"):
        connect(
            "127.0.0.1:1",
            ca_file=tmp_path / "ca.crt",
            certificate_file=str(issued.certificate_file),
            key_file=str(locked),
        )


def good_answer():
    made = []

    class Sink:
        def sendall(self, data):
            made.append(data)

    server = Sloppy()
    server(messages.encode(Op.CREATE, messages.create("x")), Sink())
    server(messages.encode(Op.ACTIVATE, messages.activate("1")), Sink())
    server(messages.encode(Op.ENCRYPT, messages.encrypt("1", bytes(12), DEK, b"aad")), Sink())
    return made[-1]


GOOD = good_answer()


def settle(answer):
    """Decoding gives a payload or one of the two errors, whatever the bytes."""
    with contextlib.suppress(GarbledError, RefusedError):
        messages.decode(answer, Op.ENCRYPT)


@given(st.binary(max_size=200))
def test_no_bytes_bring_out_another_error(junk):
    settle(junk)
    settle(GOOD[:8] + junk)


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=8), st.booleans())
def test_no_mutation_brings_out_another_error(at, junk, insert):
    settle(GOOD[:at] + junk + GOOD[at if insert else at + len(junk) :])
    settle(GOOD[:at])


def test_an_answer_to_another_question_is_garbled():
    with pytest.raises(GarbledError, match="another question"):
        messages.decode(GOOD, Op.DECRYPT)

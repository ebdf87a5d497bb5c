import hashlib
import http.client
import socket
import ssl
import threading
from pathlib import Path

import pytest

from common.errors import ConfigError
from common.vsphere.settings import PinnedConnection, VCenterSettings, read_password, tls_context
from tests.lab.pki import Authority

PIN = "ab" * 32


def settings(**changes):
    values = {"host": "127.0.0.1", "port": 443, "user": "u", "password_file": Path("p"), "certificate_sha256": PIN}
    return VCenterSettings(**{**values, **changes})


@pytest.mark.parametrize("changes", [{"ca_file": Path("ca")}, {"certificate_sha256": None}])
def test_trust_is_given_in_exactly_one_way(changes):
    with pytest.raises(ConfigError, match="exactly one way"):
        settings(**changes)


@pytest.mark.parametrize("text", ["", "ab", "zz" * 32, PIN + "00", "ab " * 32])
def test_a_pin_is_a_fingerprint(text):
    with pytest.raises(ConfigError, match="fingerprint"):
        settings(certificate_sha256=text)


def test_a_pin_may_be_written_with_colons_and_capitals():
    assert settings(certificate_sha256=":".join(["AB"] * 32)).pin == PIN
    assert settings(ca_file=Path("ca"), certificate_sha256=None).pin == ""
    assert settings().subject == "vcenter 127.0.0.1:443"


def test_the_password_is_the_first_line(tmp_path):
    path = tmp_path / "password"
    path.write_bytes(b"p\xc3\xa4ss word \r\nsecond\n")
    assert read_password(path) == "p\u00e4ss word "


@pytest.mark.parametrize("content", [None, b"", b"\nsecond", b"\xff"])
def test_a_password_file_that_holds_none(tmp_path, content):
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_password(path)
    assert str(path) in caught.value.message


def test_contexts_are_strict():
    pinned = tls_context(settings())
    assert pinned.verify_mode is ssl.CERT_NONE
    assert pinned.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_ca_file_that_holds_none(tmp_path, content):
    path = tmp_path / "ca.crt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="CA file"):
        tls_context(settings(ca_file=path, certificate_sha256=None))


def test_a_ca_file_means_that_the_host_name_counts(tmp_path):
    Authority("a", tmp_path / "ca.crt")
    context = tls_context(settings(ca_file=tmp_path / "ca.crt", certificate_sha256=None))
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.fixture
def server(tmp_path):
    """A TLS server that keeps what it is sent; its port, its certificate's SHA-256, and the bytes."""
    issued = Authority("a", tmp_path / "ca.crt").issue_server(tmp_path / "server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate_file, issued.key_file)
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(issued.certificate_file.read_text())).hexdigest()
    received = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            plain, _ = listener.accept()
            with context.wrap_socket(plain, server_side=True) as one:
                while data := one.recv(4096):
                    received.extend(data)
                    one.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], pin, received
        thread.join(10)
        assert not thread.is_alive()


def test_the_pinned_certificate_is_accepted(server):
    port, pin, received = server
    connection = PinnedConnection("127.0.0.1", port, pin=pin, context=tls_context(settings()), timeout=10)
    connection.request("GET", "/")
    assert connection.getresponse().status == http.client.OK
    connection.close()
    assert received.startswith(b"GET / HTTP/1.1")


def test_any_other_is_refused_before_a_byte_is_sent(server):
    port, pin, received = server
    connection = PinnedConnection("127.0.0.1", port, pin=PIN, context=tls_context(settings()), timeout=10)
    with pytest.raises(ssl.SSLCertVerificationError, match=pin):
        connection.request("POST", "/sdk", b"secret")
    assert received == b""

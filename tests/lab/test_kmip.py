"""The lab's key servers behave as key servers do: mutual TLS, lasting keys, and strangers turned away."""

import socket
import ssl
from pathlib import Path

import pytest

from tests.lab.kmip import KmipSite
from tests.lab.pki import Authority, Issued


def test_keys_outlive_a_restart_and_change_state(tmp_path: Path):
    with KmipSite(tmp_path / "kms") as site:
        key = site.create_key("acme")
        other = site.create_key("globex")
        assert [(k.id, k.name, k.state) for k in site.list_keys()] == [
            (key, "acme", "active"),
            (other, "globex", "active"),
        ]
        port = site.port
        site.stop()
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
            pass
        site.start()
        assert site.state(key) == "active"
        site.deactivate(key)
        assert site.state(key) == "deactivated"
        site.destroy(other)
        assert site.state(other) in {"destroyed", "absent"}
        assert site.state("4711") == "absent"


def test_a_client_of_another_authority_is_turned_away(tmp_path: Path):
    stranger = Authority("somebody else", tmp_path / "other.crt").issue_client(tmp_path / "stranger", "stranger")
    with KmipSite(tmp_path / "kms") as site, pytest.raises((ssl.SSLError, ConnectionError)):
        _ask(site, stranger)


def _ask(site: KmipSite, client: Issued) -> bytes:
    context = ssl.create_default_context(cafile=str(site.ca_file))
    context.load_cert_chain(client.certificate_file, client.key_file)
    with (
        socket.create_connection(("127.0.0.1", site.port), 5) as raw,
        context.wrap_socket(raw, server_hostname=site.server_name) as connection,
    ):
        # Under TLS 1.3 a client learns of its refusal only when it reads.
        connection.sendall(bytes.fromhex("4200780100000000"))
        return connection.recv(1)


def test_an_idle_connection_is_cut(tmp_path: Path):
    with KmipSite(tmp_path / "kms", idle_seconds=0.2) as site:
        context = ssl.create_default_context(cafile=str(site.ca_file))
        context.load_cert_chain(site.certificate_file, site.key_file)
        with (
            socket.create_connection(("127.0.0.1", site.port), 5) as raw,
            context.wrap_socket(raw, server_hostname=site.server_name) as connection,
        ):
            assert connection.recv(1) == b""
        assert site.list_keys() == []


def test_a_paused_server_takes_connections_and_says_nothing(tmp_path: Path):
    with KmipSite(tmp_path / "kms") as site:
        site.pause()
        try:
            with socket.create_connection(("127.0.0.1", site.port), 1) as raw:
                raw.settimeout(0.2)
                with pytest.raises(TimeoutError):
                    raw.recv(1)
        finally:
            site.resume()
        assert site.list_keys() == []

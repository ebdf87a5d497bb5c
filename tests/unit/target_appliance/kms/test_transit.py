"""The Transit driver before OpenBao, and before servers that seal, refuse, lie or quote what they were sent."""

import base64
import contextlib
import dataclasses
import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.clock import SystemClock
from common.errors import ConfigError, KeyNotUsableError, KmsUnavailableError
from target_appliance.config import KmsSettings, TransitSettings
from target_appliance.kms import registry
from target_appliance.kms.link.connection import BrokenError, GarbledError
from target_appliance.kms.port import KekState
from target_appliance.kms.transit.driver import TransitKms
from target_appliance.kms.transit.http import Endpoint, RefusedError, read_answer
from tests.fakes.kmip_server import Rogue, read_http
from tests.lab.openbao_site import OpenBaoSite
from tests.unit.target_appliance.kms.conftest import QUICK

DEK = bytes(range(32))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with OpenBaoSite(tmp_path_factory.mktemp("openbao")) as running:
        yield running


@pytest.fixture
def kms(site):
    made = TransitKms(site.settings(), lambda: site.token, SystemClock(), QUICK)
    yield made
    made.close()


def reason(use):
    with pytest.raises(KmsUnavailableError) as refused:
        use()
    assert "\n" not in str(refused.value)
    return refused.value.message


def test_a_kek_is_named_for_its_tenant_and_cannot_leave(site, kms):
    kek = kms.create_kek("acme")
    told = site.ask("GET", f"transit/keys/{kek}")["data"]
    assert kek.startswith("keysapart-acme-")
    assert (told["type"], told["exportable"], told["allow_plaintext_backup"]) == ("aes256-gcm96", False, False)


def test_a_missing_key_is_not_made_by_using_it(site):
    root = TransitKms(site.settings(), lambda: site._root, SystemClock(), QUICK)
    with pytest.raises(KeyNotUsableError, match="does not exist"):
        root.wrap("keysapart-nobody", DEK, b"")
    assert root.state("keysapart-nobody") is KekState.ABSENT
    root.close()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "x?y", "ü", "%2e%2e"])
def test_a_name_that_cannot_be_is_absent_or_refused_and_nothing_else(site, name):
    root = TransitKms(site.settings(), lambda: site._root, SystemClock(), QUICK)
    try:
        assert root.state(name) is KekState.ABSENT
    except KmsUnavailableError as error:
        assert "does not tell the state" in error.message  # noqa: PT017  either is well
    root.close()


def test_versions_of_a_key(site, kms):
    kek = kms.create_kek("acme")
    old = kms.wrap(kek, DEK, b"a")
    site.ask("POST", f"transit/keys/{kek}/rotate")
    new = kms.wrap(kek, DEK, b"a")
    assert (old.key_version, new.key_version) == (1, 2)
    assert kms.unwrap(old, b"a") == kms.unwrap(new, b"a") == DEK
    for version in (None, 1, 3):
        with pytest.raises(KeyNotUsableError, match="was altered"):
            kms.unwrap(dataclasses.replace(new, key_version=version), b"a")
    site.ask("POST", f"transit/keys/{kek}/config", {"min_decryption_version": 2})
    with pytest.raises(KeyNotUsableError, match="version 1 at the KMS, whose min_decryption_version is 2"):
        kms.unwrap(old, b"a")
    assert kms.unwrap(new, b"a") == DEK


@pytest.mark.parametrize("made", [{"type": "chacha20-poly1305"}, {"derived": True}, {"exportable": True}], ids=str)
def test_a_key_of_another_kind_is_of_no_use(site, kms, made):
    name = f"keysapart-odd-{next(iter(made))}"
    site.ask("POST", f"transit/keys/{name}", {"type": "aes256-gcm96", **made})
    assert "not of type aes256-gcm96, or derived, or exportable" in reason(lambda: kms.wrap(name, DEK, b""))


def test_a_sealed_server(site, kms):
    kek = kms.create_kek("acme")
    site.seal()
    try:
        for use in (kms.probe, lambda: kms.state(kek), lambda: kms.destroy_kek(kek)):
            assert "it answers 503 Vault is sealed" in reason(use)
    finally:
        site.unseal()
    assert kms.state(kek) is KekState.ACTIVE


def test_a_token_that_was_revoked_and_the_next_one(site, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    kms = registry.create(
        KmsSettings.model_construct(driver="transit", transit=site.settings(), kmip=None, embedded=None), SystemClock()
    )
    kek = kms.create_kek("acme")
    revoked = site.token
    site.revoke_token()
    for use in (kms.probe, lambda: kms.state(kek), lambda: kms.wrap(kek, DEK, b""), lambda: kms.create_kek("x")):
        told = reason(use)
        assert "403" in told
        assert "permission denied" in told
        assert revoked not in told
    site.renew_token()
    kms.probe()
    assert revoked not in caplog.text + "".join(capfd.readouterr())
    kms.close()


def test_a_mount_or_namespace_that_is_not_there_is_no_missing_key(site):
    for changes in ({"mount": "other"}, {"namespace": "nowhere"}):
        kms = TransitKms(site.settings(**changes), lambda: site._root, SystemClock(), QUICK)
        assert "404" in reason(lambda kms=kms: kms.state("keysapart-acme"))
        assert "does not make key" in reason(kms.probe)
        kms.close()


def test_a_key_that_may_not_be_deleted_is_not_believed_to_be(site, kms):
    kek = kms.create_kek("acme")
    weaker = site.ask("POST", "auth/token/create", {"policies": ["reader"]})["auth"]["client_token"]
    site.ask("POST", "sys/policies/acl/reader", {"policy": 'path "transit/keys/*" { capabilities = ["read"] }'})
    reader = TransitKms(site.settings(), lambda: weaker, SystemClock(), QUICK)
    assert f"did not destroy key {kek}, which is active there (403" in reason(lambda: reader.destroy_kek(kek))
    reader.close()


# Tokens in files.


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (None, 0o600, "cannot be read"),
        (b"hvs.secret", 0o640, "may be read by others"),
        (b"\n", 0o600, "is empty"),
        (b"hvs.a\r\nX-Evil: 1", 0o600, "holds no token"),
        (b"hvs a", 0o600, "holds no token"),
        (b"\xff", 0o600, "holds no token"),
    ],
)
def test_a_token_file_that_cannot_be_used(site, tmp_path, content, mode, words):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
        file.chmod(mode)
    settings = site.settings(token_file=str(file))
    chosen = KmsSettings.model_construct(driver="transit", transit=settings, kmip=None, embedded=None)
    kms = registry.create(chosen, SystemClock())
    with pytest.raises(ConfigError, match=words) as refused:
        kms.probe()
    assert "hvs" not in str(refused.value)


def test_a_ca_file_that_is_none_shows_at_the_start(site, tmp_path):
    with pytest.raises(ConfigError, match=r"ca\.crt"):
        TransitKms(site.settings(ca_file=str(tmp_path / "ca.crt")), lambda: "x", SystemClock())


@pytest.mark.parametrize(
    "changes",
    [{"mount": "/x"}, {"mount": "a\r\nb"}, {"namespace": "a b"}, {"credential": "both"}, {"token_file": None}],
)
def test_settings_that_cannot_be(site, changes):
    with pytest.raises(ValueError):
        site.settings(**changes)


# Servers with bad manners.


def http(status, body, head=""):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status} X\r\n{head}Content-Length: {len(content)}\r\n\r\n".encode() + content


def settings_of(rogue, *others):
    return TransitSettings.model_validate(
        {
            "endpoints": (*others, rogue.endpoint),
            "server_name": "localhost",
            "ca_file": str(rogue.authority.certificate_file),
            "token_file": "/nowhere",
        }
    )


@pytest.fixture
def rogue(tmp_path):
    with Rogue(tmp_path, None, read=read_http) as made:
        yield made


@pytest.fixture
def before_rogue(rogue):
    kms = TransitKms(settings_of(rogue), lambda: "hvs.the-token", SystemClock(), QUICK)
    yield kms
    kms.close()


ACTIVE = {"data": {"type": "aes256-gcm96"}}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (http(200, b"<html>"), "not of the API"),
        (http(200, []), "not of the API"),
        (http(200, {"data": None}), "not of the API"),
        (http(404, b"not found"), "its answer, 404, is not of the API"),
        (http(307, {}, "Location: https://elsewhere.example/\r\n"), "does not tell the state"),
        (http(500, {"errors": ["internal error"]}), "it answers 500 internal error"),
        (http(502, b"bad gateway"), "it answers 502"),
        (http(429, {"errors": ["slow down"]}), "it answers 429 slow down"),
        (http(473, {}), "it answers 473"),
        (http(200, b'{"data": {}}' + b" " * (1 << 20)), "too long"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "cut|not of the API|in time"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "not HTTP"),
        (b"SSH-2.0-OpenSSH\r\n", "not HTTP"),
    ],
    ids=range(15),
)
def test_bad_answers_are_told_in_words(rogue, before_rogue, answer, words):
    rogue.answer = lambda _request, secure: secure.sendall(answer)
    with pytest.raises(KmsUnavailableError, match=words):
        before_rogue.state("keysapart-acme")


def test_a_chunked_answer_is_an_answer(rogue, before_rogue):
    content = json.dumps(ACTIVE).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (content[:9], content[9:])) + b"0\r\n\r\n"
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    rogue.answer = lambda _request, secure: secure.sendall(answer)
    for _ in range(2):  # and leaves the connection in step
        assert before_rogue.state("keysapart-acme") is KekState.ACTIVE
    assert rogue.connections == 1


def test_what_a_server_quotes_is_not_told(rogue, before_rogue):
    def quoting(request, secure):
        secure.sendall(http(400, {"errors": [request.decode(), "hvs." + "s" * 40, "line\nof \x1b[31mtext"]}))

    rogue.answer = quoting
    secret = base64.b64encode(DEK).decode()
    told = []
    for use in (lambda: before_rogue.state("k"), before_rogue.probe, lambda: before_rogue._encrypt("k", DEK, b"")):
        with pytest.raises((KmsUnavailableError, RefusedError)) as refused:
            use()
        told.append(str(refused.value))
    assert not any(word in text for text in told for word in (secret, "s" * 40, "\x1b", "\n"))
    assert secret in rogue.requests[-1].decode()


@pytest.mark.parametrize("ciphertext", [None, "vault:v1:", "vault:v0:" + "A" * 80, "vault:v1:AAAA", "x" * 90])
def test_a_ciphertext_that_is_none(rogue, before_rogue, ciphertext):
    def answer(request, secure):
        secure.sendall(http(200, {"data": {"ciphertext": ciphertext}} if b"/encrypt/" in request else ACTIVE))

    rogue.answer = answer
    assert "does not return nonce, ciphertext and tag" in reason(lambda: before_rogue.wrap("k", DEK, b""))


def test_a_server_that_ignores_associated_data_is_never_used(rogue, before_rogue):
    sealed = "vault:v1:" + base64.b64encode(bytes(60)).decode()
    held = []

    def answer(request, secure):
        if b"/encrypt/" in request:
            held.append(json.loads(request.partition(b"\r\n\r\n")[2])["plaintext"])
            secure.sendall(http(200, {"data": {"ciphertext": sealed}}))
        else:
            secure.sendall(http(200, {"data": {"plaintext": held[-1]}} if b"/decrypt/" in request else ACTIVE))

    rogue.answer = answer
    for use in (before_rogue.probe, lambda: before_rogue.create_kek("acme"), lambda: before_rogue.wrap("k", DEK, b"")):
        assert "decrypts although the associated data was altered" in reason(use)


def test_a_standby_node_is_passed_over(rogue, tmp_path):
    with Rogue(tmp_path, None, rogue.authority, read_http) as standby:
        standby.answer = lambda _request, secure: secure.sendall(http(503, {"errors": ["Vault is sealed"]}))
        rogue.answer = lambda _request, secure: secure.sendall(http(200, ACTIVE))
        kms = TransitKms(settings_of(rogue, standby.endpoint), lambda: "t", SystemClock(), QUICK)
        for _ in range(3):
            assert kms.state("k") is KekState.ACTIVE
        assert len(standby.requests) == 1
        kms.close()


def test_a_request_says_what_the_api_asks_for():
    request = Endpoint("bao.example", "dr/east").request("hvs.t", "POST", "transit/keys/k", {"type": "x"})
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/transit/keys/k HTTP/1.1"
    assert {"Host: bao.example", "X-Vault-Token: hvs.t", "X-Vault-Namespace: dr/east"} <= set(lines)
    assert f"Content-Length: {len(body)}" in lines
    assert json.loads(body) == {"type": "x"}


def fed(content):
    left = [content]

    def receive(most):
        if not left[0]:
            raise BrokenError("it cut the connection")
        piece, left[0] = left[0][:most], left[0][most:]
        return piece

    return receive


@given(st.binary(max_size=300), st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", http(200, ACTIVE), http(400, {})]))
def test_no_bytes_bring_out_another_error(junk, start):
    for content in (start + junk, start[: len(start) // 2] + junk):
        with contextlib.suppress(BrokenError, GarbledError, RefusedError):
            read_answer(fed(content))

"""A change of authority over real TLS: who trusts the old one, the new one or both comes through, whatever it shows."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from common.clock import SystemClock
from common.errors import CertificateError, PreconditionError
from source_agent.pairing.presented import authority_at
from target_appliance.identity.authn import identify
from target_appliance.identity.authority import Authority
from target_appliance.identity.certificates import CA_LIFE, LEAF_LIFE, Issued
from target_appliance.identity.succession import parse
from target_appliance.server.credentials import ServerCredentials
from tests.fakes.clock import ManualClock

AGENT = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
OTHER = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "authority", "keysapart.lab", SystemClock())


def again(authority: Authority) -> Authority:
    """As another process opens it."""
    return Authority.open(authority._folder, "keysapart.lab", authority._clock)


class _Echo(grpc.GenericRpcHandler):
    def service(self, _details: object) -> object:
        return grpc.unary_unary_rpc_method_handler(lambda request, _context: request)


@contextmanager
def serving(authority: Authority, *, ask: bool = True) -> Iterator[tuple[int, ServerCredentials]]:
    shown = ServerCredentials(authority, ["localhost"], authority._clock)
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool, handlers=[_Echo()])
        port = server.add_secure_port("127.0.0.1:0", shown.asking_clients() if ask else shown.asking_nobody())
        server.start()
        try:
            yield port, shown
        finally:
            server.stop(0).wait()


@contextmanager
def connected(port: int, bundle: bytes, issued: Issued) -> Iterator[object]:
    credentials = grpc.ssl_channel_credentials(bundle, issued.key_pem, issued.certificate_pem)
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    with grpc.secure_channel(f"localhost:{port}", credentials, options) as channel:
        yield lambda: channel.unary_unary("/a/b")(b"x", timeout=10)


def reaches(port: int, bundle: bytes, issued: Issued) -> bool:
    with connected(port, bundle, issued) as call:
        try:
            return bool(call() == b"x")
        except grpc.RpcError:
            return False


def test_both_count_and_each_side_believes_the_other_at_once(authority: Authority) -> None:
    old_bundle, old_agent = authority.held.bundle_pem, authority.issue_agent("acme", AGENT)
    old_fingerprint = authority.fingerprint
    with serving(authority) as (port, _shown), connected(port, old_bundle, old_agent) as open_call:
        assert open_call() == b"x"
        again(authority).rotate()  # by a command, while this process serves
        for _ in range(2):
            assert reaches(port, old_bundle, old_agent)
            assert open_call() == b"x", "connections that stand go on"
            new_agent, both = authority.issue_agent("acme", OTHER), authority.held.bundle_pem
            assert authority.fingerprint != old_fingerprint
            new_only = authority.ca_pem
            for bundle in (old_bundle, both, new_only):
                for agent in (old_agent, new_agent):
                    assert reaches(port, bundle, agent)
                    identify(agent.certificate_pem, authority.trust, SystemClock().now())
            again(authority).rotate() if len(authority.held.roots) < 3 else None  # and once more
        with pytest.raises(PreconditionError, match="3 authorities count already"):
            again(authority).rotate()
        # A line made before the change still finds its fingerprint.
        with serving(authority, ask=False) as (enrolling, _):
            assert authority_at(f"localhost:{enrolling}", old_fingerprint, None) == old_bundle


def test_a_retired_authority_counts_no_more(authority: Authority) -> None:
    old_bundle, old_agent = authority.held.bundle_pem, authority.issue_agent("acme", AGENT)
    with serving(authority) as (port, _shown):
        again(authority).rotate()
        with pytest.raises(PreconditionError, match=AGENT):
            again(authority).retire()
        assert reaches(port, old_bundle, old_agent)
        authority.refresh()
        renewed = authority.issue_agent("acme", AGENT)
        assert again(authority).unrenewed() == ()
        assert len(again(authority).retire()) == 1
        assert not reaches(port, old_bundle, renewed)
        assert not reaches(port, authority.ca_pem, old_agent)
        assert reaches(port, authority.ca_pem, renewed)
        with pytest.raises(CertificateError, match="did not issue it"):
            identify(old_agent.certificate_pem, authority.trust, SystemClock().now())


def test_force_retires_although_somebody_has_to_pair_again(authority: Authority) -> None:
    authority.issue_agent("acme", AGENT)
    authority.rotate()
    authority.retire(force=True)
    assert authority.unrenewed() == (AGENT,)
    assert len(authority.held.roots) == 1


def test_what_expired_or_was_withdrawn_keeps_nobody_waiting(tmp_path: Path) -> None:
    clock = ManualClock()
    authority = Authority.create(tmp_path / "authority", "keysapart.lab", clock)
    authority.issue_agent("acme", AGENT)
    authority.issue_agent("acme", OTHER)
    authority.rotate()
    authority.withdraw(AGENT)
    assert authority.unrenewed() == (OTHER,)
    clock.advance(LEAF_LIFE.total_seconds() + 1)
    assert authority.unrenewed() == ()


def test_the_file_reads_back_and_the_old_key_is_gone(authority: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "authority"
    old_key = (folder / "ca.key").read_bytes()
    authority.rotate()
    held = parse((folder / "ca.pem").read_bytes())
    assert held == again(authority).held == authority.held
    assert (folder / "ca.pem").stat().st_mode & 0o777 == 0o600
    assert old_key not in b"".join(path.read_bytes() for path in folder.glob("*.*"))
    assert len(held.crosses) == 1
    # The leaf rule is as strict as it was: an authority vouches for leaves, and for its successor by the same name.
    for certificate in (*held.roots, *held.crosses):
        limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        assert (limits.ca, limits.path_length) == (True, 0)


@pytest.mark.parametrize(
    "damage", [lambda pem: pem[: len(pem) // 2], lambda pem: pem.replace(b"A", b"B"), lambda _: b""]
)
def test_a_damaged_file_changes_nothing_and_is_told(authority: Authority, tmp_path: Path, damage: object) -> None:
    bundle, agent = authority.held.bundle_pem, authority.issue_agent("acme", AGENT)
    with serving(authority) as (port, shown):
        shown.check()
        again(authority).rotate()
        path = tmp_path / "authority" / "ca.pem"
        good = path.read_bytes()
        path.write_bytes(damage(good))
        assert reaches(port, bundle, agent), "what was read before goes on"
        with pytest.raises(CertificateError, match="cannot be used"):
            shown.check()
        path.write_bytes(good)
        shown.check()
        assert len(authority.held.roots) == 2


def test_the_servers_certificate_is_renewed_while_it_serves(tmp_path: Path) -> None:
    clock = ManualClock(SystemClock().now())
    authority = Authority.create(tmp_path / "authority", "keysapart.lab", clock)
    shown = ServerCredentials(authority, ["localhost"], clock)
    first = shown.not_after
    shown.check()
    assert shown.not_after == first
    clock.advance(LEAF_LIFE.total_seconds() * 0.7)
    shown.check()
    assert shown.not_after > first + timedelta(days=200)
    clock.advance((CA_LIFE - LEAF_LIFE).total_seconds())
    with pytest.raises(CertificateError, match="ca rotate"):
        shown.check()


def test_grpc_is_handed_what_changed_once_and_never_the_same_again(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    # gRPC 1.85 replaces what other handshakes are using whenever it is handed anything: under load it crashes.
    fetches = []
    real = grpc.dynamic_ssl_server_credentials

    def seen(first: object, fetch: object, **more: object) -> object:
        fetches.append(fetch)
        return real(first, fetch, **more)

    monkeypatch.setattr(grpc, "dynamic_ssl_server_credentials", seen)
    shown = ServerCredentials(authority, ["localhost"], authority._clock)
    shown.asking_clients()
    shown.asking_nobody()
    assert [fetch() for fetch in fetches] == [None, None]
    again(authority).rotate()
    first, second = ([fetch() for fetch in fetches] for _ in range(2))
    assert None not in first
    assert second == [None, None]

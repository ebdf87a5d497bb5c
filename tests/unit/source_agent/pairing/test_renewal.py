"""Renewal over real mutual TLS: what is due, what it brings, and what it leaves alone."""

import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from common.clock import SystemClock
from common.errors import CertificateError, InvalidInputError, KeysapartError, TargetUnavailableError
from common.ids import ReplicaId
from common.tls import Identity, TlsFiles, load_identity
from source_agent.agent import name_of
from source_agent.config import AgentConfig, TargetSection
from source_agent.daemon.certificate import CertificateWatch
from source_agent.pairing.enroll import new_key, request_for
from source_agent.pairing.renewal import by_the_target, renew_at, renew_before_sync, renewed, require_long_life
from source_agent.stream.channel import Bearer, Target
from target_appliance.catalog.register import agent_row
from target_appliance.identity.authn import identify
from target_appliance.identity.authority import Authority
from target_appliance.identity.certificates import LEAF_LIFE
from tests.fakes.clock import ManualClock
from tests.fakes.served import Served, served

AGENT = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
NINE_MONTHS = timedelta(days=275)


@dataclass
class World:
    """An appliance, and an agent whose certificate is nine months old."""

    server: Served
    folder: Path
    config: AgentConfig = field(init=False)

    def __post_init__(self) -> None:
        self.files = self.issue(AGENT, NINE_MONTHS)
        target = TargetSection(
            address=self.server.address,
            ca_file=str(self.files.ca),
            certificate_file=str(self.files.certificate),
            key_file=str(self.files.key),
        )
        self.config = AgentConfig.model_construct(state_dir=self.folder / "agent-state", target=target)

    def issue(self, agent: str, ago: timedelta) -> TlsFiles:
        """Files as ``tenants add --out`` wrote them ``ago``."""
        now = SystemClock().now()
        authority = self.server.behind.authority
        held = Authority(authority._folder, "keysapart.test", authority.held, ManualClock(now - ago))
        issued = held.issue_agent("acme", agent)
        self.server.behind.catalog.add_tenant("acme")
        row = agent_row(identify(issued.certificate_pem, authority.trust, now), issued.certificate_pem)
        self.server.behind.catalog.put_agent(row)
        folder = self.folder / agent
        folder.mkdir()
        files = TlsFiles(folder / "ca.crt", folder / "agent.crt", folder / "agent.key")
        for path, content in zip(
            (files.ca, files.certificate, files.key), (held.ca_pem, issued.certificate_pem, issued.key_pem), strict=True
        ):
            path.write_bytes(content)
        return files

    def identity(self) -> Identity:
        return load_identity(self.files, SystemClock())

    def contents(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.files.key.parent.iterdir()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with served(tmp_path) as server:
        yield World(server, tmp_path)


def test_what_is_due_is_renewed_and_what_is_not_is_left_alone(world: World) -> None:
    old = world.identity()
    fresh = renewed(world.config, SystemClock())
    assert name_of(fresh) == name_of(old) == ("acme", AGENT)
    assert fresh.key_pem != old.key_pem
    assert fresh.not_after - SystemClock().now() > LEAF_LIFE - timedelta(minutes=1)
    (row,) = world.server.behind.catalog.agents("acme")
    assert row.serial == f"{fresh.certificate.serial_number:x}"
    both = world.files.key.read_bytes()
    assert both == fresh.key_pem
    assert both.endswith(world.files.certificate.read_bytes())
    for identity in (old, fresh):  # the old one counts until it expires: syncs under way hold it
        with closing(Target(world.server.address, identity)) as target:
            target.describe(ReplicaId(str(uuid.uuid4())))
    before = world.contents()
    assert renewed(world.config, SystemClock()).certificate == fresh.certificate
    assert world.contents() == before


def test_the_time_of_renewal_is_spread_but_never_early_or_late() -> None:
    now = SystemClock().now()
    times = set()
    for serial in range(1, 2000, 13):
        certificate = _certificate(serial, now)
        life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        part = (renew_at(certificate) - certificate.not_valid_before_utc) / life
        assert 2 / 3 <= part < 0.72
        times.add(part)
    assert len(times) > 100


def _certificate(serial: int, now: object) -> x509.Certificate:
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(_KEY.public_key())
    builder = builder.serial_number(serial).not_valid_before(now).not_valid_after(now + LEAF_LIFE)
    return builder.sign(_KEY, hashes.SHA256())


_KEY = new_key()


def test_a_target_that_is_away_leaves_the_files_and_the_sync_alone(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    away = world.config.target.model_copy(update={"address": "127.0.0.1:1"})
    config = AgentConfig.model_construct(state_dir=world.config.state_dir, target=away)
    before = world.contents()
    with pytest.raises(TargetUnavailableError):
        renewed(config, SystemClock())
    renew_before_sync(config, SystemClock())
    assert "was not renewed" in "".join(capsys.readouterr())
    assert world.contents() == before


def test_a_revoked_agent_renews_nothing(world: World) -> None:
    world.server.behind.catalog.revoke_agent(AGENT)
    before = world.contents()
    with pytest.raises(CertificateError):
        renewed(world.config, SystemClock())
    assert world.contents() == before


def test_a_certificate_of_the_users_own_authority_is_not_the_targets_to_renew(world: World, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "own", "keysapart.test", ManualClock(SystemClock().now() - NINE_MONTHS))
    issued = other.issue_agent("acme", AGENT)
    world.files.certificate.write_bytes(issued.certificate_pem)
    world.files.key.write_bytes(issued.key_pem)
    before = world.contents()
    assert not by_the_target(world.identity())
    assert renewed(world.config, SystemClock()).certificate_pem == issued.certificate_pem
    assert world.contents() == before
    with pytest.raises(CertificateError, match="was not renewed and ends in 89 days"):
        require_long_life(issued.certificate, SystemClock().now())


def test_a_replayed_renewal_gives_its_own_agent_only_what_it_has(world: World) -> None:
    request = request_for(new_key())
    stranger = load_identity(world.issue(AGENT.replace("a", "b"), timedelta()), SystemClock())
    trust = world.server.behind.authority.trust
    got = {}
    for who, identity in (("own", world.identity()), ("own again", world.identity()), ("another", stranger)):
        with closing(Target(world.server.address, identity)) as target:
            got[who] = identify(target.renew_certificate(request).certificate, trust, SystemClock().now()).agent
    assert got == {"own": AGENT, "own again": AGENT, "another": AGENT.replace("a", "b")}
    assert len(world.server.behind.catalog.agents("acme")) == 2
    with closing(Target(world.server.address, stranger)) as target, pytest.raises(InvalidInputError):
        target.renew_certificate(b"\x30\x00")


def test_the_watch_takes_over_while_calls_go_on(world: World) -> None:
    bearer = Bearer(world.identity())
    with closing(Target(world.server.address, bearer)) as target, closing(target.another()) as of_a_sync:
        of_a_sync.describe(ReplicaId(str(uuid.uuid4())))
        watch = CertificateWatch(lambda: renewed(world.config, SystemClock()), bearer, target.redial, SystemClock())
        assert watch.failing(), "nine months old, and nobody renewed it yet"
        old = bearer.identity
        watch.look()
        assert bearer.identity.certificate != old.certificate
        watch.check()
        assert watch.told()["certificate_error"] is None
        assert watch.days_left() > 364
        for one in (target, of_a_sync):
            one.describe(ReplicaId(str(uuid.uuid4())))
        of_a_sync.reconnect()  # a link that breaks comes back with the new certificate
        of_a_sync.describe(ReplicaId(str(uuid.uuid4())))


def test_the_watch_tells_of_failures_and_of_their_end(world: World) -> None:
    bearer = Bearer(world.identity())
    troubles: list[KeysapartError | None] = [TargetUnavailableError("away", subject="target", next_step="wait"), None]

    def tried() -> Identity:
        trouble = troubles.pop(0)
        if trouble is not None:
            raise trouble
        return renewed(world.config, SystemClock())

    watch = CertificateWatch(tried, bearer, lambda: None, SystemClock())
    watch.look()
    with pytest.raises(TargetUnavailableError, match="away"):
        watch.check()
    assert watch.failing()
    assert watch.told()["certificate_error"] == "away"
    watch.look()
    assert not watch.failing()


def test_a_mistake_of_ours_does_not_end_the_watch(world: World) -> None:
    def breaks() -> Identity:
        raise ZeroDivisionError

    watch = CertificateWatch(breaks, Bearer(world.identity()), lambda: None, SystemClock())
    watch.look()
    with watch.running():
        pass
    assert "ZeroDivisionError" in watch.told()["certificate_error"]

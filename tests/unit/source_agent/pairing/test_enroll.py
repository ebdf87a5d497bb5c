"""The agent's side of pairing, against a real port."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.errors import (
    AccessDeniedError,
    AlreadyExistsError,
    CertificateError,
    ConfigError,
    TargetUnavailableError,
)
from common.pairing_line import PairingLine
from common.tls import TlsFiles, load_identity
from source_agent.agent import name_of
from source_agent.pairing import files as pair_files
from source_agent.pairing.enroll import Paired, enroll
from target_appliance.identity.authority import Authority
from target_appliance.identity.succession import Authorities
from target_appliance.server.credentials import ServerCredentials
from target_appliance.server.enrollment import enrollment_port
from tests.fakes.enrolled import Enrolled, enrolling

AGENT = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"


@pytest.fixture
def enrolled(tmp_path: Path) -> Iterator[Enrolled]:
    with enrolling(tmp_path, SystemClock()) as made:
        yield made


def files_in(folder: Path) -> TlsFiles:
    return TlsFiles(folder / "ca.crt", folder / "agent.crt", folder / "agent.key")


def pair(line: PairingLine) -> Paired:
    return enroll(line, None, lambda _authority: None)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_a_line_becomes_three_files(enrolled: Enrolled, tmp_path: Path) -> None:
    files = files_in(tmp_path / "target")
    pair_files.require_room(files, replace=False)
    pair_files.write(files, pair(enrolled.line(enrolled.token(agent=AGENT))))
    assert name_of(load_identity(files, SystemClock())) == ("acme", AGENT)
    assert (mode(files.key), mode(files.certificate), mode(files.ca)) == (0o600, 0o644, 0o644)
    assert sorted(path.name for path in (tmp_path / "target").iterdir()) == ["agent.crt", "agent.key", "ca.crt"]


def test_another_fingerprint_is_not_told_the_token(enrolled: Enrolled) -> None:
    token = enrolled.token()
    with pytest.raises(CertificateError, match="not the appliance that made the pairing line"):
        pair(replace(enrolled.line(token), fingerprint=bytes(32)))
    assert pair(enrolled.line(token))


def test_who_shows_the_right_authority_without_its_key_is_not_told_the_token(
    enrolled: Enrolled, tmp_path: Path
) -> None:
    # Anybody may copy the authority's certificate: it must also vouch for who shows it.
    thief = Authority.create(tmp_path / "thief", "keysapart.lab", SystemClock())

    class Copied(Authorities):
        shown_pem = enrolled.authority.held.shown_pem

    copied = Authority(tmp_path / "thief", "keysapart.lab", Copied(thief.held.ca), SystemClock())
    shown = ServerCredentials(copied, ["localhost"], SystemClock()).asking_nobody()
    token = enrolled.token()
    with (
        enrollment_port(
            replace(enrolled.registrar, authority=copied), "127.0.0.1:0", shown, tmp_path / "thief"
        ) as port,
        pytest.raises(CertificateError, match="does not count"),
    ):
        pair(replace(enrolled.line(token), address=f"localhost:{port.port}"))
    assert pair(enrolled.line(token)), "the token was not used"


def test_a_certificate_for_another_host_is_refused(enrolled: Enrolled) -> None:
    token = enrolled.token()
    with pytest.raises(CertificateError, match="does not count"):
        enroll(enrolled.line(token), "elsewhere.example", lambda _authority: None)
    assert pair(enrolled.line(token))


def test_a_line_that_was_used_says_to_ask_for_another(enrolled: Enrolled) -> None:
    line = enrolled.line(enrolled.token())
    pair(line)
    with pytest.raises(AccessDeniedError, match="does not accept this pairing line") as refused:
        pair(line)
    assert "new one" in refused.value.next_step


def test_nobody_there(enrolled: Enrolled) -> None:
    with pytest.raises(TargetUnavailableError, match="nobody enrols") as refused:
        pair(replace(enrolled.line(bytes(32)), address="127.0.0.1:1"))
    assert "was not used" in refused.value.next_step


def test_a_key_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files.key.write_text("somebody's")
    with pytest.raises(AlreadyExistsError, match="only copy"):
        pair_files.require_room(files, replace=False)
    pair_files.require_room(files, replace=True)
    assert files.key.read_text() == "somebody's"


def test_another_appliances_ca_file_is_left_alone_and_no_token_is_sent(enrolled: Enrolled, tmp_path: Path) -> None:
    other = Authority.create(tmp_path / "other", "keysapart.lab", SystemClock())
    files = files_in(tmp_path)
    files.ca.write_bytes(other.ca_pem)
    line = enrolled.line(enrolled.token())

    with pytest.raises(AlreadyExistsError, match="another appliance"):
        enroll(line, None, lambda authority: pair_files.require_same_target(files, authority, replace=False))
    assert enroll(line, None, lambda authority: pair_files.require_same_target(files, authority, replace=True))


def test_a_folder_that_cannot_be_written_to_is_noticed_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written to"):
        pair_files.require_room(files_in(tmp_path / "file"), replace=False)
    with pytest.raises(ConfigError, match="also named"):
        pair_files.require_room(TlsFiles(tmp_path / "a", tmp_path / "a", tmp_path / "b"), replace=False)


def test_one_file_may_hold_key_and_certificate(enrolled: Enrolled, tmp_path: Path) -> None:
    files = TlsFiles(tmp_path / "ca.crt", tmp_path / "agent.pem", tmp_path / "agent.pem")
    pair_files.write(files, pair(enrolled.line(enrolled.token(agent=AGENT))))
    assert name_of(load_identity(files, SystemClock())) == ("acme", AGENT)
    assert mode(files.key) == 0o600


def test_a_failure_while_writing_leaves_no_stray_key(enrolled: Enrolled, tmp_path: Path) -> None:
    files = files_in(tmp_path / "target")
    pair_files.require_room(files, replace=False)
    pair_files.write(files, pair(enrolled.line(enrolled.token(agent=AGENT))))
    before = {path.name for path in files.key.parent.iterdir()}
    second = pair(enrolled.line(enrolled.token()))
    files.key.unlink()
    files.key.mkdir()  # nothing can be moved over a folder
    with pytest.raises(OSError, match="directory"):
        pair_files.write(files, second)
    files.key.rmdir()
    assert {path.name for path in files.key.parent.iterdir()} <= before

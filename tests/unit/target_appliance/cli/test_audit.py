import os
import pwd
import shutil
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.errors import EXIT_DAMAGED, EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_TRY_LATER, EXIT_USAGE
from target_appliance.audit.event import Event, What, Who
from target_appliance.audit.log import AuditLog
from tests.fakes.clock import ManualClock
from tests.fakes.replica import REPLICA, World
from tests.unit.target_appliance.cli.conftest import Site, fresh

ACME = Who("agent", "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", "acme")


@pytest.fixture
def audited(site: Site) -> Site:
    site.done("init")
    log = AuditLog(site.config.audit_dir, ManualClock())
    log.append(Event(What.SYNC_BEGUN, ACME, "replica one"), Event(What.SYNC_COMMITTED, ACME, "replica one"))
    AuditLog(site.config.audit_dir, SystemClock()).append(Event(What.COMMAND, Who("operator", "root"), "tenants add"))
    return site


def altered(site: Site, before: bytes, after: bytes) -> None:
    file = site.config.audit_dir / "000001.jsonl"
    content = file.read_bytes()
    assert before in content
    file.write_bytes(content.replace(before, after, 1))


def test_a_whole_log(audited: Site) -> None:
    told = audited.done("audit", "verify")
    assert told["intact"]
    assert (told["first"], told["file"], told["healed"], told["torn"]) == (1, None, [], False)
    assert "no head was given" in audited.run("audit", "verify").out


def test_the_first_altered_line_is_named(audited: Site) -> None:
    altered(audited, b"sync-committed", b"sync-forgotten")
    outcome = audited.run("audit", "verify", "--json")
    assert outcome.code == EXIT_DAMAGED
    line = next(
        number
        for number, line in enumerate((audited.config.audit_dir / "000001.jsonl").read_text().splitlines(), 1)
        if "forgotten" in line
    )
    assert (outcome.json["file"], outcome.json["line"]) == ("000001.jsonl", line)
    told = audited.run("audit", "verify")
    assert told.code == EXIT_DAMAGED
    assert f"000001.jsonl:{line}: " in told.out
    assert "DAMAGED" in told.out


def test_a_cut_log_shows_by_an_exported_head(audited: Site, tmp_path: Path) -> None:
    head = tmp_path / "head.json"
    told = audited.done("audit", "head", "--out", head)
    assert told["sequence"] == 5
    assert "agrees with the head given" in audited.run("audit", "verify", "--head", head).out
    file = audited.config.audit_dir / "000001.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:4]))
    assert audited.run("audit", "verify").code == 0
    outcome = audited.run("audit", "verify", "--head", head, "--json")
    assert outcome.code == EXIT_DAMAGED
    assert "missing at the end" in outcome.json["trouble"]
    audited.refused(EXIT_REFUSED, "audit", "head", "--out", head)


def test_a_head_that_was_altered_or_is_anothers_does_not_count(audited: Site, tmp_path: Path) -> None:
    head = tmp_path / "head.json"
    audited.done("audit", "head", "--out", head)
    other = fresh(tmp_path / "other")
    other.done("init")
    other.refused(EXIT_REFUSED, "audit", "verify", "--head", head)
    ca = audited.config.authority_dir / "ca.crt"
    assert other.run("audit", "verify", "--head", head, "--ca", ca).code == EXIT_DAMAGED
    head.write_bytes(head.read_bytes().replace(b'"sequence":', b'"sequence":1'))
    audited.refused(EXIT_DAMAGED, "audit", "verify", "--head", head)
    audited.refused(EXIT_NOT_FOUND, "audit", "verify", "--head", tmp_path / "nothing")
    audited.refused(EXIT_USAGE, "audit", "verify", "--head", tmp_path)
    audited.refused(EXIT_USAGE, "audit", "verify", "--head", head, "--ca", head)


def test_show_narrows_by_tenant_and_time(audited: Site) -> None:
    everything = audited.done("audit", "show")["events"]
    acme = audited.done("audit", "show", "--tenant", "acme")["events"]
    assert [one["what"] for one in acme] == ["sync-begun", "sync-committed"]
    assert len(everything) > len(acme)
    after = audited.done("audit", "show", "--tenant", "acme", "--since", "2026-11-24T12:00:00.001")["events"]
    assert after == []
    assert audited.done("audit", "show", "--tenant", "acme", "--since", "2026-11-24T13:00+01:00")["events"] == acme
    assert "replica one" in audited.run("audit", "show").out
    audited.refused(EXIT_USAGE, "audit", "show", "--since", "yesterday")


def test_what_was_healed_and_what_is_torn_is_told(audited: Site) -> None:
    file = audited.config.audit_dir / "000001.jsonl"
    file.write_bytes(file.read_bytes()[:-5])
    assert "middle of a line" in audited.run("audit", "verify").out
    AuditLog(audited.config.audit_dir, ManualClock()).append(Event(What.SERVE_STARTED, ACME, "appliance"))
    told = audited.run("audit", "verify")
    assert told.code == 0
    assert "was cut while it was the last line" in told.out


def test_commands_are_told_before_and_after(replicated: tuple[Site, World], tmp_path: Path) -> None:
    site = Site(tmp_path / "copy")
    shutil.copytree(replicated[0].folder, site.folder)
    site.done("verify", REPLICA)
    site.done("export", REPLICA, "--disk", 2000, "--point", 1, "--out", tmp_path / "disk")
    site.done("tenants", "suspend", "acme")
    site.refused(EXIT_NOT_FOUND, "tenants", "suspend", "nobody")
    told = [
        (one["facts"]["command"], one["object"], one["tenant"], one["outcome"])
        for one in site.done("audit", "show")["events"]
        if one["what"] == "command"
    ]
    assert told[:3] == [
        ("init", "appliance", None, "begun"),
        ("init", "appliance", None, "ok"),
        ("tenants add", "tenant acme", "acme", "begun"),
    ]
    replica = f"replica {REPLICA}"
    assert told[4:] == [
        ("verify", replica, "acme", "begun"),
        ("verify", replica, "acme", "ok"),
        ("export", replica, "acme", "begun"),
        ("export", replica, "acme", "ok"),
        ("tenants suspend", "tenant acme", "acme", "begun"),
        ("tenants suspend", "tenant acme", "acme", "ok"),
        *[
            ("tenants suspend", "tenant nobody", "nobody", outcome)
            for outcome in ("begun", "NOT_FOUND") * 2  # for people, and with --json
        ],
    ]
    events = site.done("audit", "show", "--tenant", "acme")["events"]
    verified = next(one for one in events if one["facts"].get("grains"))
    assert verified["facts"]["findings"] == 0
    assert verified["actor"] == pwd.getpwuid(os.getuid()).pw_name or "logged in as" in verified["actor"]
    opened = [one for one in events if one["what"] == "dek-unwrapped"]
    assert {(one["role"], one["facts"]["replica"]) for one in opened} == {("admin", REPLICA)}
    assert {one["facts"]["disk"] for one in opened} == {2000, 2001}
    assert site.done("audit", "verify")["intact"]


def test_what_cannot_be_told_is_not_done(replicated: tuple[Site, World], tmp_path: Path) -> None:
    site = Site(tmp_path / "copy")
    shutil.copytree(replicated[0].folder, site.folder)
    shutil.rmtree(site.config.audit_dir)
    site.config.audit_dir.write_text("in the way")
    out = tmp_path / "disk"
    for words in (
        ["export", REPLICA, "--disk", 2000, "--out", out],
        ["verify", REPLICA],
        ["tenants", "suspend", "acme"],
        ["tenants", "add", "globex", "--out", tmp_path / "globex"],
    ):
        error = site.refused(EXIT_TRY_LATER, *words)
        assert error["subject"] == "audit log"
    assert not out.exists()
    assert not (tmp_path / "globex").exists()
    assert [row["tenant"] for row in site.done("tenants", "list")["tenants"] if not row["suspended"]] == ["acme"]


def test_an_empty_log(site: Site) -> None:
    site.done("init")
    shutil.rmtree(site.config.audit_dir, ignore_errors=True)
    assert "empty" in site.run("audit", "verify").out
    site.refused(EXIT_NOT_FOUND, "audit", "head")
    assert site.done("audit", "show") == {"events": []}

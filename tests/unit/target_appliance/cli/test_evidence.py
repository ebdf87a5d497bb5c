import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from common.errors import EXIT_DAMAGED, EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_USAGE
from common.sought import seek
from target_appliance.identity.signing import fingerprint_of
from target_appliance.kms import registry
from target_appliance.kms.port import KekState
from tests.fakes.replica import REPLICA, World
from tests.unit.target_appliance.cli.conftest import Site, fresh, run

KEY = "5bb5b1c8-7f6c-4d3e-9a51-1f0b5a3c9d77"
PROVIDER = "source-site-kms"


@pytest.fixture(scope="module")
def made(replicated: tuple[Site, World], tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A verified replica, and the source's file."""
    site = Site(tmp_path_factory.mktemp("evidence") / "site")
    shutil.copytree(replicated[0].folder, site.folder)
    site.done("verify", REPLICA)
    about = {"replica": REPLICA, "agent": agent(site), "time": "2026-11-24T12:00:00Z", "key_ids": 1, "key_providers": 1}
    members = seek([("key id", KEY), ("key provider", PROVIDER)]).members() | about
    (site.folder / "sought.json").write_text(json.dumps(members))
    return site


@pytest.fixture
def copy(made: Site, tmp_path: Path) -> Site:
    shutil.copytree(made.folder, tmp_path / "copy")
    return Site(tmp_path / "copy")


def agent(site: Site) -> str:
    found: str = site.done("tenants", "list")["tenants"][0]["agents"][0]["agent"]
    return found


def evidence(site: Site, *words: object, name: str = "report") -> tuple[dict[str, Any], dict[str, Any]]:
    """What was printed, and the report's body."""
    out = site.folder / f"{name}.json"
    told = site.done("evidence", "acme", "--out", out, *words)
    return told, json.loads(out.read_bytes())["body"]


def ca(site: Site) -> Path:
    return site.config.authority_dir / "ca.crt"


def test_a_report_states_what_an_auditor_asks_for(copy: Site) -> None:
    told, body = evidence(copy, "--source", copy.folder / "sought.json")
    assert (told["checked"], told["found"]) == (True, 0)
    keys = body["at_rest"]
    assert keys["kek_state"] == "active"
    assert keys["kms"].startswith("embedded")
    assert "AES-256-GCM" in keys["algorithm"]
    (replica,) = body["replicas"]
    assert [(point["point"], point["kind"], point["verified"]) for point in replica["points"]] == [
        (1, "full", True),
        (2, "delta", True),
    ]
    assert replica["points"][1]["parent_hash"] == replica["points"][0]["record_hash"]
    assert all(len(disk["root"]) == 64 for disk in replica["points"][0]["disks"])
    assert replica["last_verify"]["findings"] == 0
    assert body["audit"]["intact"]
    assert body["transport"]["port"] is None
    absence = body["absence"]
    places = {place["place"]: place for place in absence["places"]}
    on_disk = [path for path in copy.config.store_dir.rglob("*") if path.is_file()]
    assert places["store"]["files"] == len(on_disk)
    assert places["store"]["bytes"] == sum(path.stat().st_size for path in on_disk)
    assert absence["windows"] > 5 * sum(place["bytes"] for place in absence["places"])
    assert absence["sources"][0]["agent"] == body["agents"][0]["agent"]
    said = " ".join(risk["what"] for risk in body["risks"])
    assert "embedded" in said
    assert "no head of the audit log" in said
    assert "not check" not in said


@pytest.mark.parametrize("place", ["state", "store", "name", "also", "sealed", "kms"])
def test_a_planted_name_is_found_wherever_it_lies(copy: Site, tmp_path: Path, place: str) -> None:
    words: list[object] = ["--source", copy.folder / "sought.json"]
    planted = KEY.upper().encode("utf-16-le") if place == "state" else PROVIDER.encode()
    file = copy.config.state_dir / "left-behind"
    if place == "store":
        file = copy.config.store_dir / "tenants" / "acme" / "stray"
    elif place == "sealed":
        file = next(copy.config.store_dir.rglob("000001/disk-2000.vmdk"))
        file.chmod(0o600)
        planted = file.read_bytes()[:3000] + planted + file.read_bytes()[3000 + len(planted) :]
    elif place == "name":
        file, planted = file.with_name(f"dump-{KEY}.txt"), b""
    elif place == "kms":
        file = copy.config.kms.embedded.file
        planted = file.read_bytes().rstrip() + planted
        file = copy.config.state_dir / "old-kms"
    elif place == "also":
        file = tmp_path / "appliance.log"
        words += ["--also", file]
    file.write_bytes(planted)
    told, body = evidence(copy, *words)
    assert told["found"] >= 1
    assert body["risks"][0]["severity"] == "high"
    hit = body["absence"]["hits"][0]
    assert hit["kind"] == ("key id" if place in {"state", "name"} else "key provider")
    if place == "sealed":
        assert hit["offset"] == 3000
        assert hit["file"].endswith("points/000001/disk-2000.vmdk")
    page = (copy.folder / "report.html").read_text()
    assert "were found in" in page
    assert PROVIDER not in page
    assert KEY not in page if place != "name" else True


def test_another_tenants_names_do_not_stand_in_the_report(copy: Site) -> None:
    copy.done("tenants", "suspend", "acme")  # writes a file that is named for its tenant
    other = copy.config.store_dir / "tenants" / "globex" / "replicas" / "theirs"
    other.mkdir(parents=True)
    (other / "stray").write_text(KEY)
    told, body = evidence(copy, "--source", copy.folder / "sought.json")
    assert told["found"] >= 1
    assert "another tenant" in body["absence"]["hits"][0]["file"]
    assert "globex" not in json.dumps(body)


def test_the_check_needs_nothing_but_the_fingerprint(copy: Site, tmp_path: Path) -> None:
    evidence(copy)
    report = tmp_path / "report.json"
    shutil.copy(copy.folder / "report.json", report)
    fingerprint = fingerprint_of(x509.load_pem_x509_certificate(ca(copy).read_bytes()))
    pairs = ":".join(fingerprint[place : place + 2] for place in range(0, 64, 2)).upper()
    for words in (["--ca", ca(copy)], ["--fingerprint", fingerprint], ["--fingerprint", pairs]):
        outcome = run("evidence", "check", report, *words, "--json")
        assert outcome.code == 0, outcome
        assert (outcome.json["tenant"], outcome.json["page"]) == ("acme", None)
    assert "is what the appliance of keysapart.lab signed" in run("evidence", "check", report, "--ca", ca(copy)).out
    assert run("evidence", "check", report, "--json").code == EXIT_USAGE
    assert run("evidence", "check", report, "--fingerprint", "00" * 32, "--json").code == EXIT_REFUSED
    altered = report.read_bytes().replace(b'"kek_state":"active"', b'"kek_state":"absent"')
    assert altered != report.read_bytes()
    report.write_bytes(altered)
    assert run("evidence", "check", report, "--ca", ca(copy), "--json").code == EXIT_DAMAGED


def test_a_page_that_says_something_else_is_refused(copy: Site) -> None:
    evidence(copy)
    report, page = copy.folder / "report.json", copy.folder / "report.html"
    outcome = run("evidence", "check", report, "--ca", ca(copy), "--json")
    assert outcome.json["page"] == str(page)
    page.write_text(page.read_text().replace("active", "absent"))
    outcome = run("evidence", "check", report, "--ca", ca(copy), "--json")
    assert outcome.code == EXIT_DAMAGED
    assert "does not say what" in outcome.json["error"]["message"]


def test_the_page_loads_nothing_and_runs_nothing(copy: Site) -> None:
    evidence(copy, "--source", copy.folder / "sought.json")
    page = (copy.folder / "report.html").read_text()
    assert "default-src 'none'" in page
    for tag in ("<script", "<img", "<link", "src=", "href=", "url(", "@import", "http://", "https://"):
        assert tag not in page
    for shown in (REPLICA, "AES-256-GCM", "active", "TLS", "web01"):
        assert shown in page


def test_names_are_written_as_text(copy: Site) -> None:
    from target_appliance.evidence.page import render

    evidence(copy)
    document = json.loads((copy.folder / "report.json").read_bytes())
    document["body"]["replicas"][0]["vm"] = "<script>alert(1)</script>"
    page = render(json.dumps(document).encode()).decode()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_an_exported_head_is_in_the_report(copy: Site) -> None:
    copy.done("audit", "head", "--out", copy.folder / "head.json")
    _, body = evidence(copy)
    assert body["audit"]["head_exported"] is not None
    assert all("head of the audit log" not in risk["what"] for risk in body["risks"])


def test_revealed_keys_are_an_open_risk(copy: Site) -> None:
    copy.done("keys", "reveal", REPLICA, "--out", copy.folder / "keys.json", "--yes")
    _, body = evidence(copy)
    (found,) = [risk for risk in body["risks"] if "in the clear" in risk["what"]]
    assert (found["severity"], REPLICA in found["what"]) == ("medium", True)


def test_narrowed_to_a_point_and_a_replica(copy: Site) -> None:
    _, body = evidence(copy, "--replica", "web01", "--point", 1)
    (replica,) = body["replicas"]
    assert [point["point"] for point in replica["points"]] == [1]
    _, body = evidence(copy, "--point", 2, name="second")
    assert [point["point"] for point in body["replicas"][0]["points"]] == [1, 2]
    out = copy.folder / "third.json"
    copy.refused(EXIT_NOT_FOUND, "evidence", "acme", "--point", 9, "--out", out)
    copy.refused(EXIT_NOT_FOUND, "evidence", "globex", "--out", out)
    copy.refused(EXIT_NOT_FOUND, "evidence", "make", "check", "--out", out)
    copy.refused(EXIT_NOT_FOUND, "evidence", "acme", "--replica", "nobody", "--out", out)
    copy.refused(EXIT_USAGE, "evidence", "acme", "--source", ca(copy), "--out", out)
    copy.refused(EXIT_USAGE, "evidence", "acme", "--out", copy.folder / "third.html")
    copy.refused(EXIT_REFUSED, "evidence", "acme", "--out", copy.folder / "second.json")
    assert not out.exists()


def test_what_is_wrong_is_a_risk(copy: Site) -> None:
    kek = copy.done("kms", "status")["keys"][0]["kek"]
    registry.create(copy.config.kms, None).set_state(kek, KekState.DEACTIVATED)
    record = next(copy.config.store_dir.rglob("000002/point.json"))
    record.chmod(0o600)
    record.write_bytes(record.read_bytes().replace(b"web01", b"web02"))
    lines = copy.config.audit_dir / "000001.jsonl"
    lines.write_bytes(lines.read_bytes().replace(b'"findings":0', b'"findings":1'))
    _, body = evidence(copy)
    said = [(risk["severity"], risk["what"]) for risk in body["risks"]]
    assert [severity for severity, _ in said] == sorted(
        (severity for severity, _ in said), key=["high", "medium", "low"].index
    )
    high = " ".join(what for severity, what in said if severity == "high")
    assert "deactivated" in high
    assert "point 2 of replica" in high
    assert "audit log is not what was written" in high
    assert any("was not checked" in what for _, what in said)


def test_reports_of_two_appliances_are_not_mixed_up(copy: Site, tmp_path: Path) -> None:
    evidence(copy)
    other = fresh(tmp_path / "other")
    other.done("init")
    assert run("evidence", "check", copy.folder / "report.json", "--ca", ca(other), "--json").code == EXIT_REFUSED

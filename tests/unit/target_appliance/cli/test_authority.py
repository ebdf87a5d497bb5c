from pathlib import Path

from common.errors import EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_USAGE
from target_appliance.identity.certificates import make_authority
from tests.fakes.clock import START
from tests.unit.target_appliance.cli.conftest import Site


def test_the_authority_is_replaced_in_three_steps(site: Site) -> None:
    site.done("init")
    agent = site.done("tenants", "add", "acme", "--out", site.folder / "agent")["agent"]
    before = site.done("ca", "status")
    assert len(before["authorities"]) == 1
    assert before["authorities"][0]["days_left"] > 3640
    assert (before["unrenewed"], before["warnings"]) == ([], [])
    told = site.run("ca", "rotate")
    assert "next: agents renew by themselves" in told.out
    shown = site.run("ca", "status")
    assert agent in shown.out
    assert shown.out.count("earlier") == 2
    assert agent in site.refused(EXIT_REFUSED, "ca", "retire")["message"]
    assert len(site.done("ca", "status")["authorities"]) == 2
    # New agents are told of both, so that they come through whatever the appliance shows.
    site.done("tenants", "add", "acme", "--out", site.folder / "second")
    assert (site.folder / "second" / "ca.crt").read_text().count("BEGIN CERTIFICATE") == 2
    after = site.done("ca", "retire", "--force")
    assert [one["issues"] for one in after["authorities"]] == [True]
    assert after["authorities"][0]["sha256"] != before["authorities"][0]["sha256"]
    text = "".join(path.read_text() for path in (site.folder / "state" / "audit").iterdir())
    assert '"ca rotate"' in text
    assert '"ca retire"' in text


def test_a_rebuilt_catalog_knows_agents_of_both_authorities(site: Site) -> None:
    site.done("init")
    site.done("tenants", "add", "acme", "--out", site.folder / "one")
    site.done("ca", "rotate")
    site.done("tenants", "add", "acme", "--out", site.folder / "two")
    (site.folder / "state" / "catalog.sqlite").unlink()
    assert site.done("catalog", "rebuild")["agents"] == 2


def test_a_tenants_own_authority(site: Site, tmp_path: Path) -> None:
    site.done("init")
    site.done("tenants", "add", "acme", "--out", site.folder / "agent")
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(make_authority("acme.example", START).certificate_pem)
    told = site.run("tenants", "trust", "acme", "--bundle", bundle, "--domain", "acme.example")
    assert told.code == 0
    assert "next: issue certificates for spiffe://acme.example/tenant/acme/agent/UUID" in told.out
    assert site.done("tenants", "trust", "acme", "--remove")["authorities"] == []
    assert "alone vouches" in site.run("tenants", "trust", "acme", "--remove").out
    assert site.refused(EXIT_NOT_FOUND, "tenants", "trust", "nobody", "--bundle", bundle)
    assert "--bundle FILE" in site.refused(EXIT_USAGE, "tenants", "trust", "acme")["next_step"]
    for domain in ("spiffe://x", "A", "a/b"):
        error = site.refused(EXIT_USAGE, "tenants", "trust", "acme", "--bundle", bundle, "--domain", domain)
        assert "trust domain" in error["message"]
    bundle.write_text("nothing")
    assert (
        "no certificate in PEM" in site.refused(EXIT_USAGE, "tenants", "trust", "acme", "--bundle", bundle)["message"]
    )

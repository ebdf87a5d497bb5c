from pathlib import Path

import pytest

from common.errors import EXIT_NOT_FOUND, EXIT_USAGE
from common.pairing_line import parse
from target_appliance.identity.signing import fingerprint_of
from tests.unit.target_appliance.cli.conftest import Site


def test_tenants_add_prints_a_line_and_nothing_else_that_could_be_taken_for_one(site: Site) -> None:
    site.done("init")
    told = site.run("tenants", "add", "acme")
    assert told.code == 0
    line = parse(told.out)
    assert line.address == "localhost:7445"
    authority = (site.folder / "state" / "authority" / "ca.crt").read_bytes()
    from cryptography import x509

    assert line.fingerprint.hex() == fingerprint_of(x509.load_pem_x509_certificate(authority))
    assert "registered tenant acme" in told.err
    assert "next: hand it over" in told.err
    assert (site.folder / "store" / "tenants" / "acme").is_dir()
    # Nothing counts before it is used.
    assert site.done("tenants", "list")["tenants"][0]["agents"] == []


def test_agents_add_makes_another_line_of_a_tenant_that_is_there(site: Site) -> None:
    site.done("init")
    first = site.done("tenants", "add", "acme", "--address", "[2001:db8::1]:1")
    second = site.done("agents", "add", "acme", "--valid", "1")
    assert first["new"]
    assert not second["new"]
    assert first["line"] != second["line"]
    assert first["agent"] != second["agent"]
    assert parse(first["line"]).address == "[2001:db8::1]:1"
    assert second["expires"] < first["expires"]
    assert "nobody" in site.refused(EXIT_NOT_FOUND, "agents", "add", "nobody")["message"]
    assert "host:port" in site.refused(EXIT_USAGE, "agents", "add", "acme", "--address", "x")["next_step"]


def test_without_a_port_the_way_with_files_is_named(site: Site) -> None:
    config: Path = site.folder / "appliance.toml"
    config.write_text(config.read_text().replace('enrollment = "127.0.0.1:7445"\n', ""))
    site.done("init")
    error = site.refused(EXIT_USAGE, "tenants", "add", "acme")
    assert "listen.enrollment" in error["next_step"]
    assert "--out" in error["next_step"]
    assert site.done("tenants", "add", "acme", "--out", site.folder / "agent")["new"]


@pytest.mark.parametrize("minutes", ["0", "1441", "-1"])
def test_a_line_lives_a_minute_to_a_day(site: Site, minutes: str) -> None:
    assert site.run("agents", "add", "acme", "--valid", minutes).code == EXIT_USAGE

"""A tenant's own KMS, from the configuration to the key."""

from pathlib import Path

import pytest

from common.errors import EXIT_REFUSED, EXIT_TRY_LATER, EXIT_USAGE
from target_appliance.kms import registry
from target_appliance.upkeep import kms_status
from tests.unit.target_appliance.cli.conftest import CONFIG, Site

NAMED = """
[kms_named.hsm-acme]
driver = "embedded"

[kms_named.hsm-acme.embedded]
file = "acme-kms.json"
passphrase_file = "passphrase"
"""


@pytest.fixture
def two(site: Site) -> Site:
    """An appliance that was made with one KMS, and got another."""
    site.done("init")
    (site.folder / "appliance.toml").write_text(CONFIG + NAMED)
    return site


def keys(site: Site) -> dict[str, dict[str, str | None]]:
    # The exit code tells of KMSs that nobody uses yet, too.
    return {key["tenant"]: key for key in site.run("kms", "status", "--json").json["keys"]}


def add(site: Site, name: str, *words: str) -> None:
    site.done("tenants", "add", name, "--out", str(site.folder / name), *words)


def test_a_tenant_gets_its_own_kms_and_a_key_there(two: Site) -> None:
    add(two, "acme", "--kms", "hsm-acme")
    add(two, "globex")
    status = two.done("kms", "status")
    assert status["named"]["hsm-acme"]["ready"]
    assert keys(two)["acme"]["kms"] == "hsm-acme"
    assert keys(two)["acme"]["state"] == "active"
    assert keys(two)["globex"] == {"tenant": "globex", "kms": None, "kek": None, "state": None}
    told = two.run("kms", "status").out
    assert "hsm-acme: embedded" in told
    report = kms_status(two.config)
    assert "acme-kms.json" in report.of("acme").name
    assert "/kms.json" in report.of("globex").name


def test_a_tenant_gets_a_key_that_is_there_and_no_other_tenant_does(two: Site) -> None:
    kms = registry.create(two.config.kms, None)
    kek = kms.create_kek("acme")
    add(two, "acme", "--kek", kek)
    assert keys(two)["acme"]["kek"] == kek
    error = two.refused(EXIT_REFUSED, "tenants", "add", "globex", "--out", two.folder / "globex", "--kek", kek)
    assert "is tenant acme's" in error["message"]
    assert "globex" not in keys(two), "who is refused is not registered"


def test_a_kms_or_key_that_is_not_there_is_refused_before_anything_is_made(two: Site) -> None:
    out = two.folder / "agent"
    error = two.refused(EXIT_REFUSED, "tenants", "add", "acme", "--out", out, "--kms", "nobodys")
    assert "[kms_named.nobodys]" in error["next_step"]
    error = two.refused(EXIT_REFUSED, "tenants", "add", "acme", "--out", out, "--kek", "17")
    assert "does not exist at the KMS" in error["message"]
    assert not out.exists()
    assert two.done("tenants", "list")["tenants"] == []


def test_a_named_kms_whose_file_is_lost_gets_no_new_one(two: Site) -> None:
    add(two, "acme", "--kms", "hsm-acme")
    (two.folder / "acme-kms.json").unlink()
    error = two.refused(EXIT_REFUSED, "tenants", "add", "globex", "--out", two.folder / "g", "--kms", "hsm-acme")
    assert "has no file" in error["message"]
    outcome = two.run("kms", "status", "--json")
    assert outcome.code == EXIT_TRY_LATER
    assert outcome.json["ready"]
    assert not outcome.json["named"]["hsm-acme"]["ready"]
    assert {key["tenant"]: key["state"] for key in outcome.json["keys"]}["acme"] is None


def test_init_makes_what_named_kmss_need(tmp_path: Path, site: Site) -> None:
    (site.folder / "appliance.toml").write_text(CONFIG + NAMED)
    site.done("init")
    assert (site.folder / "acme-kms.json").exists()


@pytest.mark.parametrize("name", ["Acme", "a.b", "-a", '"a b"'])
def test_a_name_that_is_none_is_a_configuration_error(site: Site, name: str) -> None:
    (site.folder / "appliance.toml").write_text(CONFIG + NAMED.replace("hsm-acme", f'"{name.strip(chr(34))}"'))
    site.refused(EXIT_USAGE, "init")

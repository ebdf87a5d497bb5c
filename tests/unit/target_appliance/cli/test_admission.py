"""Who may come in, as the operator says it; and that a catalog that is lost and rebuilt forgets none of it."""

import json
from pathlib import Path

import pytest

from common.clock import SystemClock
from common.errors import EXIT_NOT_FOUND, EXIT_USAGE, AccessDeniedError, CertificateError
from common.ids import AgentId, TenantId
from target_appliance.catalog.catalog import Catalog
from target_appliance.catalog.model import TenantLimits
from target_appliance.identity.authn import Identity, identify
from target_appliance.identity.authority import Authority
from tests.unit.target_appliance.cli.conftest import Site

NOBODY = "99999999-9999-4999-8999-999999999999"


@pytest.fixture
def made(site: Site) -> Site:
    site.done("init")
    for name in ("acme", "rival"):
        site.done("tenants", "add", name, "--out", site.folder / name)
    return site


def _identity(site: Site, tenant: str) -> Identity:
    authority = Authority.open(site.config.authority_dir, site.config.trust_domain, SystemClock())
    return identify((site.folder / tenant / "agent.crt").read_bytes(), authority.trust, SystemClock().now())


def _admit(site: Site, tenant: str) -> None:
    with Catalog.open(site.config.catalog, SystemClock()) as catalog:
        catalog.admit(_identity(site, tenant))


def _lose_the_catalog(site: Site) -> None:
    Path(site.folder / "state" / "catalog.sqlite").unlink()
    site.done("catalog", "rebuild")


def test_a_suspended_tenant_is_out_until_it_is_let_in_again(made: Site) -> None:
    first = made.done("tenants", "suspend", "acme")
    assert made.done("tenants", "suspend", "acme")["suspended"] == first["suspended"]
    with pytest.raises(AccessDeniedError, match="suspended"):
        _admit(made, "acme")
    _admit(made, "rival")
    listed = {row["tenant"]: row["suspended"] is not None for row in made.done("tenants", "list")["tenants"]}
    assert listed == {"acme": True, "rival": False}
    assert "suspended" in made.run("tenants", "list").out
    _lose_the_catalog(made)
    with pytest.raises(AccessDeniedError):
        _admit(made, "acme")
    made.done("tenants", "resume", "acme")
    _admit(made, "acme")
    _lose_the_catalog(made)
    _admit(made, "acme")


def test_a_revoked_agent_is_out_for_good(made: Site) -> None:
    agent = _identity(made, "acme").agent
    assert made.done("agents", "revoke", agent)["tenant"] == "acme"
    made.done("agents", "revoke", agent)
    with pytest.raises(CertificateError, match="revoked"):
        _admit(made, "acme")
    _admit(made, "rival")
    assert "revoked" in made.run("tenants", "list").out
    authority = Authority.open(made.config.authority_dir, made.config.trust_domain, SystemClock())
    with pytest.raises(AccessDeniedError, match="revoked"):
        authority.issue_agent(TenantId("acme"), AgentId(agent))
    _lose_the_catalog(made)
    with pytest.raises(CertificateError):
        _admit(made, "acme")
    _admit(made, "rival")
    made.done("tenants", "add", "acme", "--out", made.folder / "second")
    _admit(made, "second")


def test_limits_are_set_one_by_one_and_lifted_by_zero(made: Site) -> None:
    made.done("tenants", "limit", "acme", "--quota-gib", 3, "--max-vms", 5)
    told = made.done("tenants", "limit", "acme", "--max-streams", 2, "--bandwidth-mib", 7, "--max-vms", 0)
    limits = {"quota_bytes": 3 << 30, "max_vms": None, "max_streams": 2, "bandwidth_bytes": 7 << 20}
    assert told["limits"] == limits
    _lose_the_catalog(made)
    with Catalog.open(made.config.catalog, SystemClock()) as catalog:
        assert catalog.tenant(TenantId("acme")).limits == TenantLimits(**limits)
        assert catalog.tenant(TenantId("rival")).limits == TenantLimits()
    shown = made.run("tenants", "limit", "acme").out
    assert "quota: 3 GiB" in shown
    assert "VMs: no limit" in shown


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (EXIT_NOT_FOUND, ["tenants", "suspend", "nobody"]),
        (EXIT_NOT_FOUND, ["tenants", "resume", "nobody"]),
        (EXIT_NOT_FOUND, ["tenants", "limit", "nobody", "--max-vms", "1"]),
        (EXIT_NOT_FOUND, ["agents", "revoke", NOBODY]),
        (EXIT_USAGE, ["agents", "revoke", "web01"]),
        (EXIT_USAGE, ["tenants", "suspend", "../x"]),
    ],
)
def test_what_is_not_there_cannot_be_changed(made: Site, code: int, words: list[str]) -> None:
    made.refused(code, *words)
    assert not list(made.folder.glob("state/tenants/*"))


def test_a_tenants_file_that_was_altered_lets_nobody_in_unnoticed(made: Site) -> None:
    made.done("tenants", "suspend", "acme")
    path = made.folder / "state" / "tenants" / "acme.json"
    members = json.loads(path.read_text())
    for damage in (b"", b"[]", json.dumps({**members, "limits": {"quota": 1}}).encode()):
        path.write_bytes(damage)
        assert "acme.json" in made.refused(EXIT_USAGE, "catalog", "rebuild")["message"]

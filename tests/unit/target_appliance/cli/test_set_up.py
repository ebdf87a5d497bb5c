from pathlib import Path

import pytest
from cryptography import x509

from common.errors import EXIT_REFUSED, EXIT_USAGE
from tests.unit.target_appliance.cli.conftest import Site, run


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_help_names_every_command_and_the_exit_codes() -> None:
    told = run("--help").out
    for word in ("init", "serve", "tenants", "replicas", "points", "verify", "export", "catalog", "kms", "Exit codes"):
        assert word in told
    assert run().code == 2


@pytest.mark.parametrize(
    "words",
    [
        ["init"],
        ["serve"],
        ["tenants", "add"],
        ["tenants", "list"],
        ["replicas"],
        ["points"],
        ["verify"],
        ["export"],
        ["catalog", "rebuild"],
        ["kms", "status"],
    ],
)
def test_every_command_says_what_it_does(words: list[str]) -> None:
    told = run(*words, "--help")
    assert told.code == 0
    assert len(told.out.split()) > 10


def test_init_makes_everything_once_and_names_the_next_step(site: Site) -> None:
    told = site.run("init")
    assert told.code == 0
    assert "next: register a tenant" in told.out
    assert "is ready" in told.out
    assert mode(site.folder / "state") == mode(site.folder / "store") == 0o700
    assert mode(site.folder / "kms.json") == 0o600
    before = (site.folder / "state" / "authority" / "ca.key").read_bytes()
    error = site.refused(EXIT_REFUSED, "init")
    assert "exists already" in error["message"]
    assert (site.folder / "state" / "authority" / "ca.key").read_bytes() == before


def test_init_tells_in_json_what_it_made(site: Site) -> None:
    made = site.done("init")
    assert made["store"] == str(site.folder / "store")
    assert made["catalog"] == str(site.folder / "state" / "catalog.sqlite")
    assert made["kms"]["ready"]
    assert made["kms"]["trouble"] is None


def test_init_with_a_kms_that_does_not_answer_warns_and_goes_on(site: Site, tmp_path: Path) -> None:
    from tests.lab.pki import Authority

    issued = Authority("kms", tmp_path / "ca.crt").issue_client(tmp_path / "client", "appliance")
    config = site.folder / "appliance.toml"
    kmip = '[kms]\ndriver = "kmip"\n[kms.kmip]\nendpoints = ["127.0.0.1:1"]\nca_file = "ca.crt"\n'
    kmip += f'certificate_file = "{issued.certificate_file.name}"\nkey_file = "{issued.key_file.name}"\n'
    config.write_text(config.read_text().split("[kms]")[0] + kmip)
    told = site.run("init")
    assert told.code == 0
    assert "WARNING: the KMS does not answer properly (127.0.0.1:1" in told.out
    assert (site.folder / "state" / "authority" / "ca.key").exists()


def test_init_with_a_kms_whose_files_are_missing_warns_too(site: Site) -> None:
    config = site.folder / "appliance.toml"
    kmip = '[kms]\ndriver = "kmip"\n[kms.kmip]\nendpoints = ["127.0.0.1:1"]\nca_file = "ca.crt"\n'
    kmip += 'certificate_file = "c.crt"\nkey_file = "c.key"\n'
    config.write_text(config.read_text().split("[kms]")[0] + kmip)
    made = site.done("init")
    assert not made["kms"]["ready"]
    assert "ca.crt" in made["kms"]["trouble"]


def test_an_interrupted_init_can_be_repeated(site: Site) -> None:
    (site.folder / "passphrase").chmod(0o644)
    assert "may be read by others" in site.refused(EXIT_USAGE, "init")["message"]
    (site.folder / "passphrase").chmod(0o600)
    site.done("init")


def test_tenants_add_writes_what_an_agent_needs(site: Site) -> None:
    site.done("init")
    out = site.folder / "agent"
    added = site.done("tenants", "add", "acme", "--out", out)
    assert (added["tenant"], added["new"]) == ("acme", True)
    assert mode(out) == 0o700
    assert (mode(out / "agent.key"), mode(out / "agent.crt"), mode(out / "ca.crt")) == (0o600, 0o644, 0o644)
    certificate = x509.load_pem_x509_certificate((out / "agent.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (uri,) = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uri == f"spiffe://keysapart.lab/tenant/acme/agent/{added['agent']}"
    assert (site.folder / "store" / "tenants" / "acme").is_dir()


def test_tenants_add_again_makes_another_agent_elsewhere_and_overwrites_nothing(site: Site) -> None:
    site.done("init")
    first = site.done("tenants", "add", "acme", "--out", site.folder / "one")
    key = (site.folder / "one" / "agent.key").read_bytes()
    error = site.refused(EXIT_REFUSED, "tenants", "add", "acme", "--out", site.folder / "one")
    assert "may be the only copy" in error["message"]
    assert (site.folder / "one" / "agent.key").read_bytes() == key
    told = site.run("tenants", "add", "acme", "--out", site.folder / "two")
    assert "registered before" in told.out
    assert "copy the three files" in told.out
    listed = site.done("tenants", "list")["tenants"]
    assert [tenant["tenant"] for tenant in listed] == ["acme"]
    agents = [agent["agent"] for agent in listed[0]["agents"]]
    assert len(agents) == 2
    assert first["agent"] in agents
    assert all(agent in site.run("tenants", "list").out for agent in agents)


def test_tenants_add_does_not_mix_authorities_in_a_folder(site: Site) -> None:
    site.done("init")
    out = site.folder / "agent"
    out.mkdir()
    (out / "ca.crt").write_text("somebody else's")
    error = site.refused(EXIT_REFUSED, "tenants", "add", "acme", "--out", out)
    assert "another certificate authority" in error["message"]
    assert [path.name for path in out.iterdir()] == ["ca.crt"]


@pytest.mark.parametrize("name", ["ACME", "a b", "../etc", "", "a" * 64, "\x1b[31mred"])
def test_tenants_add_refuses_what_is_no_name(site: Site, name: str) -> None:
    site.done("init")
    error = site.refused(EXIT_USAGE, "tenants", "add", name, "--out", site.folder / "agent")
    assert "is not a tenant name" in error["message"]
    assert "\x1b" not in error["message"]
    assert not (site.folder / "agent").exists()


def test_before_init_every_command_points_to_it(site: Site) -> None:
    for words in (
        ["tenants", "add", "acme", "--out", site.folder / "a"],
        ["replicas"],
        ["points", "x"],
        ["verify", "x"],
    ):
        assert "init" in site.refused(EXIT_REFUSED, *words)["next_step"]


def test_without_or_with_a_wrong_configuration(site: Site) -> None:
    told = run("replicas")
    assert told.code == EXIT_USAGE
    assert "--config FILE" in told.err
    missing = run("--config", site.folder / "nowhere.toml", "replicas", "--json")
    assert missing.code == EXIT_USAGE
    assert "nowhere.toml" in missing.json["error"]["message"]
    (site.folder / "appliance.toml").write_text("store_dri = 1")
    assert "unknown key store_dri" in site.refused(EXIT_USAGE, "init")["message"]


def test_serving_before_init_is_refused(site: Site) -> None:
    told = site.run("serve")
    assert told.code == EXIT_REFUSED
    assert "target-appliance init" in told.err

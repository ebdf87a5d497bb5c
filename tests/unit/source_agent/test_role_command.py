import json

from typer.testing import CliRunner

from common.errors import EXIT_USAGE
from source_agent.cli import app


def run(*words):
    return CliRunner().invoke(app, ["role", *words])


def test_the_role_is_shown_without_a_configuration():
    shown = json.loads(run("show", "--json").stdout)
    assert shown["transport"] == "hotadd"
    first = shown["privileges"][0]
    assert set(first) == {"privilege", "on", "purpose", "encrypted_only"}
    lines = run("show").stdout.splitlines()
    assert lines[0].split() == ["privilege", "on", "to"]
    assert len(lines) == 1 + len(shown["privileges"])


def test_an_unknown_transport_is_refused():
    refused = run("show", "--transport", "san")
    assert refused.exit_code == EXIT_USAGE
    assert "hotadd, vddk-nbdssl, vddk-hotadd" in refused.stderr


def test_half_a_login_is_refused():
    refused = run("create", "--user", "administrator@vsphere.local")
    assert refused.exit_code == EXIT_USAGE
    assert "--password-file" in refused.stderr

"""Two commands on each side, from nothing to a committed sync; and what a line is worth afterwards."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import EXIT_REFUSED, EXIT_TRY_LATER, EXIT_USAGE
from tests.end_to_end.pair import BIN, TENANT, Outcome, Pair
from tests.lab.site import Lab

pytestmark = pytest.mark.lab
VM = "plain01"


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """An appliance that serves, and an agent that has nothing yet."""
    with Lab(tmp_path_factory.mktemp("pairing") / "lab", disk_mib=8) as lab:
        pair = Pair(lab, kms="embedded", tenants=())
        with pair:
            yield pair


def fed(pair: Pair, line: str, *words: object) -> Outcome:
    """``source-agent pair -`` with the line on its standard input."""
    done = subprocess.run(
        [BIN / "source-agent", "--config", pair.lab.agent_toml, "pair", "-", *(str(word) for word in words)],
        input=line,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


def line_of(pair: Pair, *words: object) -> str:
    """What the command prints for people: the line, alone on standard output."""
    told = pair.target(*words)
    assert told.code == 0, told
    assert told.out.count("\n") == 1
    assert "next:" in told.err
    assert told.out.strip() not in told.err
    return told.out


def log_of(pair: Pair) -> str:
    return pair.log.read_text()


def test_two_commands_on_each_side(unpaired: Pair) -> None:
    line = line_of(unpaired, "tenants", "add", TENANT)
    told = fed(unpaired, line)
    assert told.code == 0, told
    assert "paired as agent" in told.out
    assert "next: source-agent doctor" in told.out
    folder = unpaired.folder / "agent"
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in folder.iterdir()} == {
        "agent.key": "0o600",
        "agent.crt": "0o644",
        "ca.crt": "0o644",
    }
    assert unpaired.sync(VM)["point"] == 1
    assert line.split("/")[2] not in log_of(unpaired)

    # The key that is there stays, whatever line comes.
    before = (folder / "agent.key").read_bytes()
    again = fed(unpaired, line_of(unpaired, "agents", "add", TENANT), "--json")
    assert again.code == EXIT_REFUSED
    assert "--replace" in again.error["next_step"]
    # A used line says no more than that it does not count.
    used = fed(unpaired, line, "--replace", "--json")
    assert used.code == EXIT_REFUSED
    assert "does not accept this pairing line" in used.error["message"]
    assert "was used before" in log_of(unpaired)
    assert (folder / "agent.key").read_bytes() == before

    # Another agent in its place; the first one's certificate goes on counting until it is revoked.
    replaced = fed(unpaired, line_of(unpaired, "agents", "add", TENANT, "--valid", "5"), "--replace", "--json")
    assert replaced.code == 0, replaced
    assert (folder / "agent.key").read_bytes() != before
    assert unpaired.sync(VM)["point"] == 2
    agents = unpaired.done("tenants", "list")["tenants"][0]["agents"]
    assert replaced.json["agent"] in {agent["agent"] for agent in agents}
    assert len(agents) == 2


def test_a_line_reaches_neither_the_log_nor_an_error(unpaired: Pair) -> None:
    line = line_of(unpaired, "tenants", "add", "globex").strip()
    token = line.split("/")[2]
    cut = fed(unpaired, line[:-20], "--replace", "--json")
    assert cut.code == EXIT_USAGE
    assert token not in cut.out + cut.err
    text = unpaired.lab.agent_toml.read_text()
    try:
        unpaired.lab.agent_toml.write_text(text.replace('level = "info"', 'level = "debug"'))
        elsewhere = fed(unpaired, altered(line, "127.0.0.1:1"), "--replace", "--json")
    finally:
        unpaired.lab.agent_toml.write_text(text)
    assert elsewhere.code == EXIT_TRY_LATER
    assert token not in elsewhere.out + elsewhere.err + log_of(unpaired)


def altered(line: str, address: str) -> str:
    from common.pairing_line import PairingLine, parse

    said = parse(line)
    return PairingLine(address, said.token, said.fingerprint).text()


def test_agents_add_needs_a_tenant_that_is_there(unpaired: Pair) -> None:
    assert unpaired.target("agents", "add", "nobody", "--json").error["reason"] == "NOT_FOUND"


def test_a_folder_that_cannot_be_written_costs_no_token(unpaired: Pair, tmp_path: Path) -> None:
    (tmp_path / "blocked").touch()
    config = unpaired.lab.folder / "blocked.toml"
    text = unpaired.lab.agent_toml.read_text()
    config.write_text(text.replace('"agent/', f'"{tmp_path}/blocked/'))
    line = line_of(unpaired, "tenants", "add", "initech")
    refused = subprocess.run(
        [BIN / "source-agent", "--config", config, "pair", "-"], input=line, capture_output=True, text=True, check=False
    )
    assert refused.returncode == EXIT_USAGE, refused
    assert fed(unpaired, line, "--replace", "--json").code == 0

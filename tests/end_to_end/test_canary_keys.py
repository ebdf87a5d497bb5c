"""Tokens, private keys, passwords and passphrases lie in the files that are for them, and nowhere else.

At debug, and through every error: what each is of (a line, a key file, a password) holds a secret it may repeat.
"""

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from common.errors import EXIT_OK
from common.pairing_line import PairingLine, parse
from tests.end_to_end.pair import BIN, TENANT, Outcome, Pair
from tests.end_to_end.search import disguises, files, hits, hits_in, shown_by, text_disguises
from tests.end_to_end.waiting import until
from tests.lab.ports import reserved
from tests.lab.site import Lab

pytestmark = pytest.mark.lab

VM = "plain01"
PASSPHRASE = "correct horse battery staple"
OPERATOR = '[operator]\ncertificate_file = "operator/operator.crt"\nkey_file = "operator/operator.key"\n'


@dataclass
class Secret:
    """Something to be looked for, and the files in which it may stand."""

    name: str
    forms: dict[str, bytes]
    homes: set[Path] = field(default_factory=set)


def key_in(path: Path) -> Secret:
    """A private key: its number in every disguise, and the lines of its PEM that hold some of it."""
    content = path.read_bytes()
    pem = content[content.index(b"-----BEGIN PRIVATE KEY-----") :]
    key = serialization.load_pem_private_key(pem, password=None)
    number = key.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
    lines = pem.split(b"-----BEGIN PRIVATE KEY-----\n")[1].splitlines()[:2]
    return Secret(path.name, disguises(number) | {f"line {at}": line for at, line in enumerate(lines)}, {path})


@dataclass
class Searched:
    """A pair that logs at debug and whose every output is kept."""

    pair: Pair
    temporary: Path
    told: list[bytes] = field(default_factory=list)
    secrets: list[Secret] = field(default_factory=list)

    def keep(self, outcome: Outcome) -> Outcome:
        """Note what a command printed, to be searched."""
        self.told += [outcome.out.encode(), outcome.err.encode()]
        return outcome

    def source(self, *words: object) -> Outcome:
        return self.keep(self.pair.source(*words))

    def target(self, *words: object) -> Outcome:
        return self.keep(self.pair.target(*words))

    def line(self, *words: object) -> str:
        """A new pairing line, which is printed by design; what is printed beside it is kept."""
        outcome = self.pair.target(*words)
        assert outcome.code == EXIT_OK, outcome
        self.told.append(outcome.err.encode())
        line = outcome.out.strip()
        token = parse(line).token
        self.secrets.append(Secret("token", disguises(token) | {"written": line.split("/")[2].encode()}))
        return line

    def paired(self, line: str, *words: object) -> Outcome:
        """``pair -``; looks at the process while it waits for the line."""
        command = [BIN / "source-agent", "--config", self.pair.lab.agent_toml, "pair", "-", *map(str, words)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            shown = shown_by(process.pid)
            out, err = process.communicate(line, timeout=60)
        self.told += shown
        return self.keep(Outcome(process.returncode, out, err))

    def with_settings(self, config: Path, *changes: tuple[str, str]) -> Iterator[None]:
        """The configuration with other words, and then as it was."""
        before = text = config.read_text()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        config.write_text(text)
        try:
            yield
        finally:
            config.write_text(before)

    def fails(self, config: Path, old: str, new: str, *words: object) -> Outcome:
        """A command of that configuration's half, which another setting breaks."""
        for _ in self.with_settings(config, (old, new)):
            outcome = (self.source if config == self.pair.lab.agent_toml else self.target)(*words)
        assert outcome.code != EXIT_OK, (new, outcome)
        assert "Traceback" not in outcome.out + outcome.err
        return outcome

    def search(self) -> None:
        """Every secret is in its homes, and nowhere else."""
        lab = self.pair.lab
        places = list(files(lab.folder, without=[lab.folder / "disks", lab.folder / "vcenter"]))
        for secret in self.secrets:
            for home in secret.homes:
                assert hits([home], secret.forms), f"the search does not find {secret.name} in {home}"
            assert hits([path for path in places if path not in secret.homes], secret.forms) == [], secret.name
            assert hits(files(self.temporary), secret.forms) == []
            assert hits_in(f"{secret.name} was printed", self.told, secret.forms) == []


@pytest.fixture
def searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Searched]:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with Lab(tmp_path / "lab", disk_mib=8) as lab:
        monkeypatch.setenv("TMPDIR", str(temporary))
        for config in (lab.agent_toml, lab.appliance_toml):
            config.write_text(config.read_text().replace('level = "info"', 'level = "debug"'))
        with Pair(lab, kms="embedded", tenants=()) as pair:
            yield Searched(pair, temporary)


def test_each_secret_stays_in_its_file(searched: Searched) -> None:
    pair, lab = searched.pair, searched.pair.lab
    _pair(searched)
    _read_back(searched)
    vm_password = Secret("vCenter password", text_disguises(lab.vcenter.password), {lab.vcenter.password_file})
    passphrase = Secret("passphrase", text_disguises(PASSPHRASE), {lab.folder / "passphrase"})
    searched.secrets += [
        vm_password,
        passphrase,
        key_in(lab.folder / "agent" / "agent.key"),
        key_in(lab.folder / "operator" / "operator.key"),
        key_in(lab.folder / "appliance-state" / "authority" / "ca.key"),
    ]
    _reveal(searched)
    _break_the_source(searched)
    _break_the_target(searched)
    _watch_the_daemon(searched)
    for words in (["audit", "show"], ["evidence", TENANT, "--out", lab.folder / "evidence.json"], ["tenants", "list"]):
        assert searched.target(*words).code == EXIT_OK
    authority = lab.folder / "appliance-state" / "authority"
    searched.secrets += [key_in(file) for file in (authority / "server.pem", authority / "signer.pem")]
    assert pair.appliance is not None
    assert pair.appliance.stop() == 0
    searched.search()


def _pair(searched: Searched) -> None:
    """A line that is good, and every way in which one is not."""
    line = searched.line("tenants", "add", TENANT)
    said = parse(line)
    for bad in (
        line[:-9],
        line.replace(line.split("/")[3], "A" * 43),
        PairingLine(said.address, said.token, bytes(32)).text(),
        PairingLine("127.0.0.1:1", said.token, said.fingerprint).text(),  # type: ignore[arg-type]
        line + line,
    ):
        assert searched.paired(bad).code != EXIT_OK
    assert searched.paired(line).code == EXIT_OK
    assert searched.paired(line).code != EXIT_OK, "a key is there"
    assert searched.paired(line, "--replace").code != EXIT_OK, "the line was used"
    wrong_token = PairingLine(said.address, said.token[::-1], said.fingerprint).text()
    searched.secrets.append(Secret("wrong token", disguises(said.token[::-1])))
    assert searched.paired(wrong_token, "--replace").code != EXIT_OK
    assert searched.source("sync", VM, "--json").code == EXIT_OK


def _read_back(searched: Searched) -> None:
    """With an operator's key, and with keys that are not one's."""
    pair, config = searched.pair, searched.pair.lab.agent_toml
    pair.done("operators", "add", TENANT, "--out", pair.folder / "operator")
    config.write_text(config.read_text() + OPERATOR)
    out = pair.folder / "fetched.raw"
    assert searched.source("fetch", VM, "--disk", 2000, "--out", out).code == EXIT_OK
    out.unlink()
    for new in ("agent/agent.key", "operator/operator.crt", "absent.key"):
        searched.fails(config, "operator/operator.key", new, "fetch", VM, "--disk", 2000, "--out", out)
    assert not out.exists()


def _reveal(searched: Searched) -> None:
    """DEKs go to the file that was asked for, and not into it twice."""
    pair, out = searched.pair, searched.pair.folder / "revealed.json"
    (replica,) = pair.done("replicas")["replicas"]
    words = ("keys", "reveal", replica["replica"], "--out", out, "--yes")
    assert searched.target(*words).code == EXIT_OK
    assert searched.target(*words).code != EXIT_OK
    keys = json.loads(out.read_text())["keys"]
    assert keys
    searched.secrets += [Secret(f"dek {one['disk']}", disguises(bytes.fromhex(one["dek"])), {out}) for one in keys]


def _break_the_source(searched: Searched) -> None:
    """Key and password files that are others, or none."""
    lab = searched.pair.lab
    config, password = lab.agent_toml, lab.vcenter.password_file.name
    wrong = lab.folder / "wrong.key"
    key = (lab.folder / "agent" / "agent.key").read_bytes()
    wrong.write_bytes(key[:-40])
    next(one for one in searched.secrets if one.name == "agent.key").homes.add(wrong)
    for new in ("wrong.key", "operator/operator.key", password):
        searched.fails(config, '"agent/agent.key"', f'"{new}"', "sync", VM, "--json")
    for new in ("agent/agent.key", "operator/operator.crt"):
        searched.fails(config, f'"{password}"', f'"{new}"', "sync", VM, "--json")
    # A secret where a number, a name or a table belongs: the sentence about it must not repeat it.
    searched.fails(config, 'quiesce = "none"', f'quiesce = "{lab.vcenter.password}"', "sync", VM, "--json")
    searched.fails(config, "parallel_disks = 2", f'parallel_disks = "{lab.vcenter.password}"', "sync", VM, "--json")
    searched.fails(config, "password_file =", f'password = "{lab.vcenter.password}"\npassword_file =', "sync", VM)
    searched.fails(config, "[sync]", f"[sync\npassword = {lab.vcenter.password}", "sync", VM)


def _break_the_target(searched: Searched) -> None:
    """A passphrase that is wrong, missing, or written into the configuration."""
    pair, config = searched.pair, searched.pair.config
    file = 'passphrase_file = "passphrase"'
    wrong = pair.folder / "wrong-passphrase"
    wrong.write_text(PASSPHRASE + "!")
    wrong.chmod(0o600)
    next(one for one in searched.secrets if one.name == "passphrase").homes.add(wrong)
    for new in (
        'passphrase_file = "wrong-passphrase"',
        'passphrase_file = "absent"',
        'passphrase_file = "agent/agent.key"',
        f'{file}\npassphrase = "{PASSPHRASE}"',
        f'passphrase_file = ["{PASSPHRASE}"]',
        f'passphrase_file = "passphrase\n{PASSPHRASE}',
    ):
        replica = pair.done("replicas")["replicas"][0]["replica"]
        searched.fails(config, file, new, "verify", replica, "--json")


def _watch_the_daemon(searched: Searched) -> None:
    """Metrics, status and log of an agent that runs, syncs and stops."""
    pair, config = searched.pair, searched.pair.lab.agent_toml
    log = pair.folder / "agent.log"
    with reserved(1) as (port,), log.open("wb") as sink:
        extra = f'[[protect]]\nvms = ["{VM}"]\nrpo = "10m"\n[observe]\nmetrics = "127.0.0.1:{port}"\n'
        config.write_text(f"{config.read_text()}\n{extra}")
        command = [BIN / "source-agent", "--config", config, "run"]
        with subprocess.Popen(command, stdout=sink, stderr=sink) as process:
            try:
                until("the daemon tells of itself", lambda: searched.source("status", "--json").code == EXIT_OK, 60)
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                    metrics = answer.read()
                shown = shown_by(process.pid)
            finally:
                process.terminate()
                process.wait(60)
    assert b"keysapart_agent_certificate_days_left" in metrics
    searched.told += [metrics, *shown]

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from common.clock import SystemClock
from common.config import load
from target_appliance.cli.app import app
from target_appliance.config import ApplianceConfig
from target_appliance.kms import registry
from target_appliance.recovery.types import SyncKind
from target_appliance.recovery.vault import Vault
from target_appliance.store.posix import PosixStore
from tests.fakes.replica import World, grain_bytes, spec, vm_configuration

CONFIG = """
state_dir = "state"
store_dir = "store"
trust_domain = "keysapart.lab"
[listen]
data = "127.0.0.1:0"
health = "127.0.0.1:0"
enrollment = "127.0.0.1:7445"
names = ["localhost"]
[kms]
driver = "embedded"
[kms.embedded]
file = "kms.json"
passphrase_file = "passphrase"
"""


@dataclass
class Outcome:
    """How a command ended, run in this process."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its one JSON object, which is all that it printed."""
        return json.loads(self.out)


@dataclass
class Site:
    """A folder with a configuration, and the command."""

    folder: Path

    def run(self, *words: object) -> Outcome:
        """``target-appliance --config … words``."""
        return run("--config", self.folder / "appliance.toml", *words)

    def done(self, *words: object) -> Any:
        """The same with ``--json``; it must succeed."""
        outcome = self.run(*words, "--json")
        assert outcome.code == 0, outcome
        return outcome.json

    def refused(self, code: int, *words: object) -> dict[str, Any]:
        """It must fail, with one sentence for people and the same for machines."""
        told, machine = self.run(*words), self.run(*words, "--json")
        assert (told.code, machine.code) == (code, code), (told, machine)
        error: dict[str, Any] = machine.json["error"]
        assert told.err.splitlines()[-1] == f"error: {error['message']}: {error['next_step']}"
        assert "Traceback" not in told.out + told.err + machine.out + machine.err
        return error

    @property
    def config(self) -> ApplianceConfig:
        """What the file says."""
        return load(self.folder / "appliance.toml", ApplianceConfig)


def run(*words: object, typed: str = "") -> Outcome:
    """Any command line; ``typed`` is what its user answers."""
    handlers = logging.root.handlers[:]
    result = CliRunner().invoke(app, [str(word) for word in words], input=typed)
    # A command sets up logging for its process, which ends with it; here it would go on writing to a closed capture.
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    return Outcome(result.exit_code, result.stdout, result.stderr)


def fresh(folder: Path) -> Site:
    """A site before ``init``."""
    folder.mkdir(exist_ok=True)
    (folder / "appliance.toml").write_text(CONFIG)
    (folder / "passphrase").write_text("correct horse battery staple")
    (folder / "passphrase").chmod(0o600)
    return Site(folder)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return fresh(tmp_path)


@pytest.fixture(scope="package")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Site, World]:
    """An appliance with tenant acme and a replica of two points; tests leave it as it was."""
    made = fresh(tmp_path_factory.mktemp("replicated"))
    made.done("init")
    made.done("tenants", "add", "acme", "--out", made.folder / "agent")
    config, clock = made.config, SystemClock()
    store, kms = PosixStore(config.store_dir), registry.create(config.kms, clock)
    world = World(store, kms, clock, Vault(store, kms, clock))
    world.sync({spec(): {0: grain_bytes(1), 5: grain_bytes(2)}, spec(2001, 1 << 20): {3: grain_bytes(3)}})
    world.configuration = vm_configuration(vtpm=True)
    world.sync({spec(kind=SyncKind.DELTA): {5: grain_bytes(4), 6: None}}, SyncKind.DELTA)
    return made, world

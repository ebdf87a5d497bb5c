"""The pair as its users run it: the two commands as processes, over a lab."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.lab.site import Lab

BIN = Path(sys.executable).parent
AGENT = (BIN / "source-agent",)
WITHOUT_PAUSES = (sys.executable, "-m", "tests.end_to_end.without_pauses")
SOON_AGAIN = (sys.executable, "-m", "tests.end_to_end.soon_again")
TENANT = "acme"
_START_SECONDS = 30.0
_COMMAND_SECONDS = 240.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Its one JSON object."""
        found: dict[str, Any] = json.loads(self.out)
        return found

    @property
    def error(self) -> dict[str, Any]:
        """The error it told with --json."""
        error: dict[str, Any] = self.json["error"]
        return error


class Appliance:
    """A serving ``target-appliance``; its log is a file beside the lab."""

    def __init__(
        self,
        config: Path,
        address: tuple[str, int],
        log: Path,
        env: dict[str, str] | None = None,
        command: list[Any] | None = None,
    ) -> None:
        self.log = log
        command = command or [BIN / "target-appliance", "--config", config, "serve"]
        with log.open("ab") as sink:
            self.process = subprocess.Popen(command, stdout=sink, stderr=sink, env=env)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(address, timeout=1):
                return
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"the appliance did not start: {log.read_text()[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> int:
        """SIGTERM, and its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()


class Pair:
    """A lab with an appliance that knows one tenant, and the tenant's agent.

    Args:
        lab: started already; ends after the pair.
        kms: ``kmip`` (the lab's own server), ``embedded``, or another driver that ``table`` describes.
        table: the lines of ``[kms.…]`` for another driver.
        tenants: whose agent's files are written beforehand; none for an agent that is to be paired.
    """

    def __init__(self, lab: Lab, kms: str = "kmip", tenants: Sequence[str] = (TENANT,), table: str = "") -> None:
        self.lab = lab
        self.folder = lab.folder
        self.config = lab.appliance_toml if kms == "kmip" else _under(lab, kms, table or _embedded(lab))
        self.log = lab.folder / "appliance.log"
        self.appliance: Appliance | None = None
        self.done("init")
        for tenant in tenants:
            self.done("tenants", "add", tenant, "--out", lab.folder / "agent")

    def __enter__(self) -> Self:
        self.serve()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.appliance is not None:
            self.appliance.stop()

    def serve(self, env: dict[str, str] | None = None, command: list[Any] | None = None) -> Appliance:
        """Start the appliance (again); ``command`` in place of ``target-appliance serve``."""
        self.appliance = Appliance(self.config, ("127.0.0.1", self.lab.data_port), self.log, env, command)
        return self.appliance

    def target(self, *words: object) -> Outcome:
        """A ``target-appliance`` command."""
        return run("target-appliance", self.config, *words)

    def source(self, *words: object) -> Outcome:
        """A ``source-agent`` command."""
        return run("source-agent", self.lab.agent_toml, *words)

    def start_source(self, *words: object, program: Sequence[object] = AGENT) -> "subprocess.Popen[str]":
        """A ``source-agent`` command that goes on while the test does; the caller waits for it."""
        return start(program, self.lab.agent_toml, *words)

    def done(self, *words: object) -> dict[str, Any]:
        """A ``target-appliance`` command that must succeed; its JSON object."""
        outcome = self.target(*words, "--json")
        assert outcome.code == 0, outcome
        return outcome.json

    def sync(self, vm: str, *words: str) -> dict[str, Any]:
        """A sync that must succeed; its report."""
        outcome = self.source("sync", vm, "--json", *words)
        assert outcome.code == 0, (outcome, self.log.read_text()[-2000:] if self.log.exists() else "")
        return outcome.json

    def refused(self, vm: str, *words: str) -> Outcome:
        """A sync that must fail, in one sentence and without a traceback."""
        outcome = self.source("sync", vm, "--json", *words)
        assert outcome.code != 0, outcome
        assert "Traceback" not in outcome.out + outcome.err
        assert "\n" not in outcome.error["message"]
        return outcome

    def point_folder(self, replica: str, point: int) -> Path:
        """Where a committed point lies."""
        return self.folder / "store" / "tenants" / TENANT / "replicas" / replica / "points" / f"{point:06d}"


def _embedded(lab: Lab) -> str:
    passphrase = lab.folder / "passphrase"
    passphrase.write_text("correct horse battery staple")
    passphrase.chmod(0o600)
    return f'file = "embedded-kms.json"\npassphrase_file = "{passphrase.name}"'


def _under(lab: Lab, driver: str, table: str) -> Path:
    """A configuration of the lab's appliance with another KMS."""
    config = lab.folder / f"appliance-{driver}.toml"
    text = lab.appliance_toml.read_text().replace('driver = "kmip"', f'driver = "{driver}"')
    config.write_text(f"{text}\n[kms.{driver}]\n{table}\n")
    return config


def start(program: Sequence[object], config: Path, *words: object) -> "subprocess.Popen[str]":
    """Start a command with ``--config``."""
    return subprocess.Popen(
        [str(word) for word in (*program, "--config", config, *words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(command: str, config: Path, *words: object) -> Outcome:
    """Run a command with ``--config`` to its end."""
    process = start([BIN / command], config, *words)
    try:
        out, err = process.communicate(timeout=_COMMAND_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"{command} {words} does not end: {out} {err}") from None
    return Outcome(process.returncode, out, err)

"""``present``: from the command line to the bytes, and to its end."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.errors import EXIT_NOT_FOUND, EXIT_REFUSED, EXIT_USAGE, KeyNotUsableError
from target_appliance.present import show as show_module
from target_appliance.recovery.vault import Vault
from tests.fakes.nbd_client import NbdClient
from tests.fakes.replica import REPLICA, World
from tests.unit.target_appliance.cli.conftest import Site

Replicated = tuple[Site, World]
PROGRAM = Path(sys.executable).parent / "target-appliance"


def audit_lines(site: Site) -> list[dict[str, object]]:
    lines = "".join(path.read_text() for path in sorted(site.config.audit_dir.glob("*.jsonl")))
    return [json.loads(line) for line in lines.splitlines()]


def test_a_process_serves_until_sigterm_and_leaves_nothing(replicated: Replicated, tmp_path: Path) -> None:
    site, world = replicated
    command = [PROGRAM, "--config", site.folder / "appliance.toml", "present", "web01", "--point", "1", "--json"]
    with subprocess.Popen(
        [*map(str, command), "--socket", str(tmp_path / "s")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert [one["uri"] for one in told["exports"]] == [
            f"nbd+unix:///disk-{disk}?socket={tmp_path / 's'}" for disk in (2000, 2001)
        ]
        for disk in (2000, 2001):
            with NbdClient(str(tmp_path / "s")) as client:
                size = client.go(f"disk-{disk}")
                assert client.read(0, size) == world.image(1, disk)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, ""), err
    assert list(tmp_path.iterdir()) == []
    begun, ended = [line for line in audit_lines(site) if line["facts"].get("command") == "present"][-2:]  # type: ignore[attr-defined]
    assert (begun["outcome"], ended["outcome"], ended["object"]) == ("begun", "ok", f"replica {REPLICA}")
    assert ended["facts"] == {
        "command": "present",
        "point": 1,
        "disks": "2000 2001",
        "at": f"socket {tmp_path / 's'}",
        "clients": 2,
        "bytes": 5 << 20,
    }


def test_a_port_is_told_with_its_number(replicated: Replicated) -> None:
    site, _ = replicated
    told = site.done("present", "web01", "--disk", 2000, "--listen", "localhost:0", "--for", "1s")
    (export,) = told["exports"]
    assert export["uri"].startswith("nbds://localhost:")
    assert not export["uri"].startswith("nbds://localhost:0/")


def test_refusals(replicated: Replicated, tmp_path: Path) -> None:
    site, _ = replicated
    place = ("--socket", tmp_path / "s")
    site.refused(EXIT_USAGE, "present", "web01")
    site.refused(EXIT_USAGE, "present", "web01", *place, "--listen", "localhost:0")
    site.refused(EXIT_USAGE, "present", "web01", "--listen", "localhost")
    site.refused(EXIT_USAGE, "present", "web01", *place, "--for", "soon")
    site.refused(EXIT_NOT_FOUND, "present", "web01", *place, "--point", 9)
    site.refused(EXIT_NOT_FOUND, "present", "web01", *place, "--disk", 2009)
    site.refused(EXIT_NOT_FOUND, "present", "web02", *place)
    (tmp_path / "s").write_text("mine")
    site.refused(EXIT_REFUSED, "present", "web01", *place)


def test_a_key_that_is_withdrawn_ends_it(
    replicated: Replicated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The KMS is asked at the first look; here it says that the key is not Active any more."""
    site, _ = replicated
    monkeypatch.setattr(show_module, "_LOOK_SECONDS", 0.0)
    seen: list[int] = []

    def withdrawn(_vault: Vault, _tenant: str) -> None:
        seen.append(1)
        raise KeyNotUsableError("the key is Deactivated", subject="kek 1", next_step="activate it")

    monkeypatch.setattr(Vault, "still", withdrawn)
    outcome = site.run("present", "web01", "--socket", tmp_path / "s")
    assert (outcome.code, seen) == (EXIT_REFUSED, [1])
    assert "the key is Deactivated" in outcome.err
    assert list(tmp_path.iterdir()) == []

"""The commands that people and tools use, each in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.build import REPOSITORY

COMMAND = [sys.executable, "-m", "tests.lab"]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, "up", str(tmp_path / "lab"), "--disk-mib", "2", "--vms", "1"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _run(*words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *words], cwd=REPOSITORY, input=stdin, capture_output=True, check=False)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _all_gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + 10
    while any(map(_alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(_alive, pids))


def test_up_guest_control_and_down(up: subprocess.Popen[str], tmp_path: Path):
    assert up.stdout is not None
    assert up.stdout.readline() == "ready\n"
    folder = tmp_path / "lab"
    described = json.loads((folder / "lab.json").read_text())
    assert [(vm["name"], vm["encrypted"], len(vm["disks"])) for vm in described["vms"]] == [
        ("web01", True, 2),
        ("plain01", False, 1),
        ("many001", False, 1),
    ]
    agent = tomllib.loads((folder / "agent.toml").read_text())
    appliance = tomllib.loads((folder / "appliance.toml").read_text())
    assert agent["target"]["address"] == appliance["listen"]["data"]
    assert (folder / appliance["kms"]["kmip"]["key_file"]).exists()
    assert (folder / agent["vcenter"]["ca_file"]).exists()

    lab = str(folder)
    assert _run("guest", lab, "web01", "2000", "write", "700", stdin=b"hello").returncode == 0
    assert _run("guest", lab, "web01", "2000", "read", "700", "5").stdout == b"hello"
    assert _run("guest", lab, "web01", "2000", "image", str(tmp_path / "out.raw")).returncode == 0
    assert (tmp_path / "out.raw").read_bytes()[700:705] == b"hello"
    assert _run("guest", lab, "web01", "2000", "discard", "0", "4096").returncode == 0
    assert _run("guest", lab, "web01", "2000", "read", "700", "5").stdout == bytes(5)
    assert _run("guest", lab, "web01", "2000", "load", str(tmp_path / "out.raw")).returncode == 0
    assert _run("guest", lab, "web01", "2000", "read", "700", "5").stdout == b"hello"

    assert _run("control", lab, "reset-cbt", "web01").returncode == 0
    assert json.loads(_run("control", lab, "orphans").stdout) == []
    assert [one["name"] for one in json.loads(_run("control", lab, "source-kms", "list").stdout)] == [
        "web01",
        "agent-vm",
    ]
    assert _run("control", lab, "kms", "stop").returncode == 0
    assert _run("control", lab, "kms", "start").returncode == 0
    pids = json.loads((folder / "lab.json").read_text())["pids"]
    assert pids["kms"] != described["pids"]["kms"]
    refused = _run("control", lab, "reset-cbt", "web09")
    assert (refused.returncode, refused.stderr) == (1, b"no VM is called web09\n")
    assert _run("control", lab, "no-such-order").returncode == 1

    up.send_signal(signal.SIGTERM)
    assert up.wait(10) == 0
    assert _all_gone(list(pids.values()))
    assert (folder / "disks" / "web01" / "2000" / "base.raw").exists()
    gone = _run("control", lab, "orphans")
    assert gone.returncode == 1
    assert gone.stderr.startswith(b"no lab runs in ")


def test_up_with_a_vcenter_at_the_target(tmp_path: Path):
    command = [*COMMAND, "up", str(tmp_path / "lab"), "--disk-mib", "2", "--target-vcenter"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            section = tomllib.loads((tmp_path / "lab" / "appliance.toml").read_text())["vcenter"]
            with socket.create_connection((section["host"], section["port"]), 10):
                pass
        finally:
            process.terminate()
        assert process.wait(10) == 0


def test_nothing_outlives_a_lab_that_is_killed(up: subprocess.Popen[str], tmp_path: Path):
    assert up.stdout is not None
    assert up.stdout.readline() == "ready\n"
    pids = list(json.loads((tmp_path / "lab" / "lab.json").read_text())["pids"].values())
    up.kill()
    up.wait()
    assert _all_gone(pids)

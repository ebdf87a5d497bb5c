"""Every parser: whatever bytes it gets, it raises what it declares, in bounded time and memory."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import FOUND, TARGETS, inputs

MINUTE = (
    "agent-config",
    "appliance-config",
    "certificate",
    "certificate-name",
    "frame",
    "grain-marker",
    "grain-table",
    "manifest",
    "pairing-line",
    "point-record",
    "seed-descriptor",
)
"""Parsers that are searched for 60 seconds from one seed; ``make fuzz`` takes others, for as long as is wanted."""
LEAST = 5_000
"""Inputs in that time: the slowest of them gets twenty times as many on an idle machine."""
RUNS = 20_000
"""Inputs for each of the others, the same ones each time."""


@pytest.mark.parametrize("name", MINUTE)
def test_nothing_breaks_it_in_a_minute(name: str, tmp_path: Path) -> None:
    assert _search(name, tmp_path, seconds=60) >= LEAST


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - set(MINUTE)))
def test_nothing_breaks_it(name: str, tmp_path: Path) -> None:
    assert _search(name, tmp_path, seconds=240, runs=RUNS) >= RUNS


def _search(name: str, out: Path, **options: int) -> int:
    """Inputs that were tried."""
    # Coverage's own tracing would be counted as ours, and slows the search tenfold.
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    environment["PYTHONHASHSEED"] = "0"
    words = [f"--{option}={value}" for option, value in options.items()]
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, "--seed=1", f"--out={out}", *words],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    (tried,) = re.findall(r"number_of_executed_units: (\d+)", done.stderr)
    return int(tried)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_it_begins_with_what_its_parser_takes(name: str) -> None:
    """A search that begins at what is refused at the door hardly gets behind it."""
    for data in TARGETS[name].seeds():
        TARGETS[name].run(data)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_what_once_broke_it_does_no_more(name: str) -> None:
    for data in inputs(name):
        TARGETS[name].try_one(data)


def test_every_finding_has_its_parser() -> None:
    assert {path.name for path in FOUND.iterdir()} <= set(TARGETS)

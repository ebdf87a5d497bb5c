"""The commands of README, as they stand there."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.end_to_end.pair import BIN, Appliance
from tests.lab.site import Lab
from tests.lab.target_site import TargetSite

TOP = Path(__file__).resolve().parents[2]


def lab_commands() -> tuple[str, str]:
    """What README says to type in the lab's second shell, before and after ``serve``."""
    section = (TOP / "README.md").read_text().partition("## By hand, in the lab")[2].partition("\n## ")[0]
    block = section.partition("in another one:\n\n")[2]
    lines = re.match(r"(?:(?:    [^\n]*)?\n)+", block)[0]
    before, serve, after = re.split(r"\n    (target-appliance [^\n]* serve) &\n", lines)
    assert serve.endswith("/tmp/lab/appliance.toml serve")
    return before, after


def typed(text: str, lab: Path) -> subprocess.CompletedProcess[str]:
    script = text.replace("/tmp/lab", str(lab)).replace("$PWD/.venv/bin", str(BIN))
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=TOP, capture_output=True, text=True, check=False, timeout=240
    )


@pytest.mark.lab
def test_lab_sequence_works_as_it_stands(tmp_path):
    before, after = lab_commands()
    with Lab(tmp_path / "lab", disk_mib=16) as lab, TargetSite(lab.folder / "target") as target:
        target.join(lab.appliance_toml)
        done = typed(before, lab.folder)
        assert done.returncode == 0, done.stderr

        appliance = Appliance(lab.appliance_toml, ("127.0.0.1", lab.data_port), lab.folder / "serve.log")
        try:
            done = typed(f"export PATH={BIN}:$PATH\n{after}", lab.folder)
        finally:
            appliance.stop()

    assert done.returncode == 0, done.stdout + done.stderr
    assert "point 2 runs as VM web01" in done.stdout
    assert done.stdout.splitlines()[-1] == "equal"

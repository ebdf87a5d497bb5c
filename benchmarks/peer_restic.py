"""What a user would run instead for a delta: restic, its second backup of a disk image into an encrypted repository.

The repository is a folder on the same medium, so restic pays for no network at all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import Child


@dataclass(frozen=True)
class ResticFigures:
    """The first backup and the one after the delta."""

    full_seconds: float
    delta_seconds: float
    full_peak_bytes: int
    delta_peak_bytes: int
    delta_stored_bytes: int


def backup_twice(disk: Path, work: Path, change: Callable[[], None]) -> ResticFigures:
    """Back up, ``change`` the disk, back up again; with restic's own cache warm, as its user has it."""
    password = work / "password"
    password.write_text("bench")
    repository = work / "repository"
    restic = [
        "restic",
        "--quiet",
        f"--repo={repository}",
        f"--password-file={password}",
        f"--cache-dir={work / 'cache'}",
    ]
    log = work / "log"
    Child([*restic, "init"], log).finish()
    full = Child([*restic, "backup", str(disk)], log)
    full.finish()
    change()
    before = _stored(repository)
    delta = Child([*restic, "backup", str(disk)], log)
    delta.finish()
    stored = _stored(repository) - before
    return ResticFigures(full.seconds, delta.seconds, full.peak_bytes, delta.peak_bytes, stored)


def _stored(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

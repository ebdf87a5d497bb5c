"""What a user would run instead for a delta: restic, its second backup of a disk image into an encrypted repository.

The repository is a folder on the same medium, so restic pays for no network at all.
"""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.process import Child


@dataclass(frozen=True)
class BackupFigures:
    """One backup."""

    seconds: float
    processor_seconds: float
    peak_bytes: int
    stored_bytes: int


class Restic:
    """A repository in ``work``, which must be empty; its cache is kept warm, as its user has it."""

    def __init__(self, work: Path) -> None:
        self._log = work / "log"
        self._repository = work / "repository"
        password = work / "password"
        password.write_text("bench")
        self._command = ["restic", "--quiet", f"--repo={self._repository}", f"--password-file={password}"]
        self._command.append(f"--cache-dir={work / 'cache'}")
        Child([*self._command, "init"], self._log).finish()

    def backup(self, disk: Path) -> BackupFigures:
        """Back the image up on top of what is there."""
        before = self._stored()
        run = Child([*self._command, "backup", str(disk)], self._log)
        run.finish()
        return BackupFigures(run.seconds, run.processor_seconds, run.peak_bytes, self._stored() - before)

    def _stored(self) -> int:
        return sum(path.stat().st_size for path in self._repository.rglob("*") if path.is_file())

"""File systems of a test's own in memory, where they may be mounted."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.capabilities import SYS_ADMIN, may


def may_mount() -> bool:
    """Whether this process has the right."""
    return may(SYS_ADMIN)


@contextmanager
def mounted(folder: Path, mib: int) -> Iterator[None]:
    """A tmpfs of this size at ``folder``, which is there, while the block runs."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, option: str) -> None:
    """Change it: ``ro``, ``rw`` or ``size=…``."""
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)

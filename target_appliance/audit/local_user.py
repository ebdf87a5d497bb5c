"""Who runs a command, as the operating system knows him."""

import os
import pwd
from pathlib import Path
from typing import Final

from target_appliance.audit.event import Who

_LOGIN: Final = Path("/proc/self/loginuid")
"""Who logged in, which sudo does not change; the kernel's largest number when nobody did."""
_NOBODY: Final = (1 << 32) - 1


def local_user() -> Who:
    """The user of this process, and who logged in where that is somebody else."""
    user = _name(os.getuid())
    try:
        login = int(_LOGIN.read_text())
    except (OSError, ValueError):
        login = _NOBODY
    behind = "" if login in {_NOBODY, os.getuid()} else f", logged in as {_name(login)}"
    return Who("admin", f"{user}{behind}")


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"

"""Where a VDDK is installed, and the configuration file that it gets from us."""

from pathlib import Path
from typing import Final

from common.private_file import write_file

SONAMES: Final = ("libvixDiskLib.so.9", "libvixDiskLib.so.8", "libvixDiskLib.so.7", "libvixDiskLib.so.6")
"""Newest first: one release serves the vSphere versions two before and one after it."""

# Timeouts are those that the vendor's guide advises; the keys for larger buffers are for cold reads only.
_CONFIG = """\
tmpDirectory={tmp}
vixDiskLib.transport.LogLevel=3
vixDiskLib.nfc.LogLevel=1
vixDiskLib.nfc.AcceptTimeoutMs=180000
vixDiskLib.nfc.RequestTimeoutMs=180000
vixDiskLib.nfc.ReadTimeoutMs=60000
vixDiskLib.nfc.WriteTimeoutMs=600000
vixDiskLib.nfcFssrvr.TimeoutMs=0
vixDiskLib.nfcFssrvrWrite.TimeoutMs=0
vixDiskLib.phoneHome.EnablePhoneHome=0
"""


def find_library(root: Path) -> Path | None:
    """The library under an unpacked vmware-vix-disklib-distrib; None where there is none."""
    for folder in (root / "lib64", root):
        for name in SONAMES:
            if (folder / name).is_file():
                return folder / name
    return None


def write_config(folder: Path) -> Path:
    """Write the library's configuration into ``folder``, made when missing; returns the file."""
    temporary = folder / "tmp"
    temporary.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / "vddk.conf"
    write_file(path, _CONFIG.format(tmp=temporary).encode(), replace=True)
    return path

"""Which reader a configuration means on this machine. Pure."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

from common.errors import ConfigError

Transport = Literal["auto", "hotadd", "vddk-nbdssl", "vddk-hotadd"]


@dataclass(frozen=True, slots=True)
class Choice:
    """How disks are read, and why so."""

    transport: Literal["hotadd", "vddk-nbdssl", "vddk-hotadd"]
    why: str
    """In words, for the log."""

    @property
    def mode(self) -> Literal["hotadd", "nbdssl"]:
        """VDDK's word for it."""
        return "nbdssl" if self.transport == "vddk-nbdssl" else "hotadd"


def choose(transport: Transport, library: Path | None, root: Path) -> Choice:
    """The reader for a transport.

    Args:
        transport: as configured.
        library: the VDDK library that was found under ``root``; None where there is none.
        root: the configured vddk_dir.

    Raises:
        ConfigError: VDDK is asked for and not installed.
    """
    match transport:
        case "hotadd":
            return Choice("hotadd", "disks are read through hot-add, as configured")
        case "auto" if library is None:
            return Choice("hotadd", f"disks are read through hot-add, because no VDDK is installed under {root}")
        case "auto":
            return Choice("vddk-nbdssl", f"disks are read over nbdssl, because there is a VDDK: {library}")
        case "vddk-nbdssl" | "vddk-hotadd" as asked:
            if library is None:
                raise ConfigError(
                    f"transport is {asked}, and no VDDK is installed under {root}",
                    subject="reader",
                    next_step="unpack vmware-vix-disklib-distrib and set vddk_dir in the [reader] section to it, or set"
                    ' transport to "hotadd", which needs no library',
                )
            return Choice(
                asked, f"disks are read over {asked.removeprefix('vddk-')} with the VDDK {library}, as configured"
            )
        case unreachable:
            assert_never(unreachable)

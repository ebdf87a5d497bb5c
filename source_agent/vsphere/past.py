"""What a vCenter remembers of a VM, as far as trust in its change lists depends on it."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Visit:
    """A host that the VM ran on, as that host is now."""

    host: str
    version: str
    """Such as ``8.0.3``; empty when the host is gone from the inventory or does not show it to this login."""
    build: int
    """0 when it cannot be seen."""
    restarted: bool = False
    """It was started anew after the VM had come: its release may have been another one then."""


@dataclass(frozen=True, slots=True)
class Past:
    """What happened to a VM since some moment."""

    reverted: bool = False
    """It was brought back to a snapshot."""
    visits: tuple[Visit, ...] | None = ()
    """Hosts that it came to, left, or was started on, by name, each once; a host that it never left need not be among
    them. None when it changed hosts more often than the vCenter tells in one answer."""


NOTHING: Final = Past()

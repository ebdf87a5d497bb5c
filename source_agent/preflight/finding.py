"""What a rule finds, and what the rules know of the sync to be."""

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from source_agent.privileges import Missing
from source_agent.vsphere.port import Surroundings, VmInfo


class Severity(enum.StrEnum):
    """What a finding means for the sync."""

    REFUSE = "refuse"
    WARN = "warn"
    NOTE = "note"
    """Nothing to act upon."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason against, or a caveat."""

    severity: Severity
    rule: str
    """Short stable name, for machines."""
    sentence: str
    remedy: str
    """What to do about it, an imperative clause."""


@dataclass(frozen=True, slots=True)
class Shut:
    """A port of a host that takes no connection from here."""

    host: str
    port: int
    why: str
    needed: bool
    """No disk of a VM on that host can be read without it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What the sync would use, as far as the rules care."""

    transport: str = "hotadd"
    """hotadd, vddk-nbdssl or vddk-hotadd."""
    agent_vm: VmInfo | None = None
    """The agent's own VM, which disks are hot-added to; None when it is not known yet."""
    quiesce: bool = False
    own_snapshots: frozenset[str] = frozenset()
    """Morefs of leftovers of ours: they are removed before the sync, so they do not count."""
    missing: tuple[Missing, ...] = ()
    """What the login cannot do."""
    around: Surroundings | None = None
    shut: tuple[Shut, ...] = ()
    """Ports of hosts that take no connection."""


Rule = Callable[[VmInfo, Setting], Iterator[Finding]]
"""One check; it yields nothing where all is well."""


def refuse(rule: str, sentence: str, remedy: str) -> Finding:
    """A finding that forbids the sync."""
    return Finding(Severity.REFUSE, rule, sentence, remedy)


def warn(rule: str, sentence: str, remedy: str) -> Finding:
    """A finding that lets it pass."""
    return Finding(Severity.WARN, rule, sentence, remedy)


def note(rule: str, sentence: str) -> Finding:
    """A finding that asks for nothing."""
    return Finding(Severity.NOTE, rule, sentence, "nothing to do")

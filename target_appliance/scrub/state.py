"""What state a point is in, by what a look at it found. Pure."""

import enum
from collections.abc import Iterable, Mapping
from typing import Final

from common.ids import DiskKey, PointNumber
from target_appliance.recovery.findings import Finding, Kind
from target_appliance.recovery.types import PointRecord


class State(enum.StrEnum):
    """A point's own files; what it stands on has a state of its own."""

    GOOD = "good"
    UNREACHABLE = "unreachable"
    """The store failed to read; says nothing about the bytes."""
    MISSING = "missing"
    """The point, or a file of it, is not there."""
    CORRUPT = "corrupt"
    """Bytes are not those that were committed."""


_WORSE: Final = tuple(State)
_STATES: Final = {
    Kind.CORRUPT: State.CORRUPT,
    Kind.FORGED: State.CORRUPT,
    Kind.MISSING: State.MISSING,
    Kind.UNREACHABLE: State.UNREACHABLE,
    Kind.EXTRA: State.GOOD,  # a stray file takes nothing from the point
}


def worst(states: Iterable[State]) -> State:
    """The worst of them; GOOD of none."""
    return max(states, key=_WORSE.index, default=State.GOOD)


def verdict(findings: Iterable[Finding]) -> State:
    """The state that findings about one point's files amount to."""
    return worst(_STATES[finding.kind] for finding in findings)


def sentence(findings: Iterable[Finding]) -> str:
    """The finding that decides, in words; empty when there is none."""
    found = max(findings, key=lambda one: _WORSE.index(_STATES[one.kind]), default=None)
    return "" if found is None else f"{found.file}: {found.what}"


def affected(
    number: PointNumber, disks: Iterable[DiskKey | None], records: Mapping[PointNumber, PointRecord]
) -> tuple[PointNumber, ...]:
    """Points that cannot be trusted when ``number`` is bad: itself, and those that stand on it.

    Args:
        number: the bad point.
        disks: of which disks; None among them means all.
        records: the replica's, as far as they can be read.
    """
    wanted = set(disks)
    found: set[PointNumber] = {number}
    for key in {disk.spec.key for record in records.values() for disk in record.disks}:
        if key in wanted or None in wanted:
            standing = {number}
            for later in sorted(records):
                disk = records[later].disk(key)
                if disk is not None and disk.base_point in standing:
                    standing.add(later)
            found |= standing
    return tuple(sorted(found))

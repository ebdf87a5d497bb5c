"""What a verify found, as frozen values: where, what kind, which points suffer."""

import enum
from collections.abc import Callable
from dataclasses import dataclass, field

from common.ids import DiskKey, PointNumber, ReplicaId

Progress = Callable[[int], None]
"""Called now and then with the number of bytes read since the last call."""


class Kind(enum.StrEnum):
    """What is wrong. Only the first four mean that stored bytes are not what was committed."""

    CORRUPT = "corrupt"
    """Bytes differ, are too few, or too many."""
    MISSING = "missing"
    """A file, a point or a wrapped key is not there."""
    EXTRA = "extra"
    """Something lies there that no commit wrote."""
    FORGED = "forged"
    """Bytes agree with each other, but not with the keys: somebody made them, or moved them from elsewhere."""
    UNREACHABLE = "unreachable"
    """The store failed to read; says nothing about the bytes."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``first`` and ``last`` are the first and last byte of the file that is affected."""

    kind: Kind
    replica: ReplicaId
    file: str
    what: str
    point: PointNumber | None = None
    disk: DiskKey | None = None
    first: int | None = None
    last: int | None = None
    grain: int | None = None
    affects: tuple[PointNumber, ...] = ()
    """Points that cannot be trusted because of it."""

    def __str__(self) -> str:
        parts = [f"replica {self.replica}"]
        parts += [] if self.point is None else [f"point {self.point}"]
        parts += [] if self.disk is None else [f"disk {self.disk}"]
        parts += [f"file {self.file}"]
        parts += [] if self.first is None else [f"bytes {self.first} to {self.last}"]
        parts += [] if self.grain is None else [f"grain {self.grain}"]
        affected = ", ".join(map(str, self.affects))
        suffix = f" (affects points {affected})" if affected else ""
        return f"{', '.join(parts)}: {self.kind.value}: {self.what}{suffix}"


@dataclass(frozen=True, slots=True)
class Report:
    """A verify's outcome."""

    replica: ReplicaId
    with_key: bool
    points: tuple[PointNumber, ...]
    """Points that were looked at."""
    files: int
    bytes: int
    """Stored bytes that were read and compared."""
    grains: int
    """Grains that were opened and compared; 0 without the key."""
    findings: tuple[Finding, ...]

    @property
    def damaged(self) -> bool:
        """Whether anything is not as it was committed."""
        return any(finding.kind is not Kind.UNREACHABLE for finding in self.findings)

    @property
    def unreachable(self) -> bool:
        """Whether something could not be read."""
        return any(finding.kind is Kind.UNREACHABLE for finding in self.findings)


def _at_once(_bytes: int) -> None:
    """Nothing is held back."""


@dataclass
class Collector:
    """What a verify gathers on its way."""

    replica: ReplicaId
    progress: Progress
    found: dict[Finding, None] = field(default_factory=dict)
    """In the order of discovery; keys only, so that none comes twice."""
    files: int = 0
    bytes: int = 0
    grains: int = 0
    pace: Progress = _at_once
    """Told of bytes that were read, those read again with the key too; whatever it raises ends the verify."""
    mark: tuple[str, int] | None = None
    """Stage or file, and offset: what comes before it was compared by an earlier verify, and is passed over."""
    passed: tuple[str, int] | None = None
    """How far this verify is, in the same words; a later one may begin there."""

    def read(self, count: int) -> None:
        """Count stored bytes that were compared."""
        self.bytes += count
        self.progress(count)
        self.pace(count)

    def skips(self, file: str, offset: int) -> bool:
        """Whether the piece of ``file`` at ``offset`` comes before the mark; the order of pieces is always the same."""
        if self.mark is None:
            return False
        if self.mark[0] == file and offset >= self.mark[1]:
            self.mark = None
            return False
        return True


@dataclass(frozen=True, slots=True)
class Place:
    """A file of a point, about which findings are made."""

    collector: Collector
    file: str
    point: PointNumber | None = None
    disk: DiskKey | None = None

    def add(self, kind: Kind, what: str, area: tuple[int, int] | None = None, grain: int | None = None) -> None:
        """Note a finding; ``area`` is offset and length, an empty one stands for the byte before it."""
        first = last = None
        if area is not None:
            first = area[0]
            last = max(area[0] + area[1] - 1, area[0])
        finding = Finding(kind, self.collector.replica, self.file, what, self.point, self.disk, first, last, grain)
        self.collector.found[finding] = None

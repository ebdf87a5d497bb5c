"""Is the audit log what was written? Names the first line that was altered, is missing, or stands elsewhere."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from target_appliance.audit import chain, folder
from target_appliance.audit.event import What

_LINE_END: Final = b'"}\n'


@dataclass(frozen=True, slots=True)
class Place:
    """A line: name of its file, and its number there, from 1."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check found."""

    first: int | None
    """Sequence of the first line that is there."""
    head: chain.Head | None
    """Of the last line that is as it was written."""
    files: int
    healed: tuple[Place, ...]
    """Where a crash cut what was then the last line; the line after it describes it."""
    torn: bool
    """The log ends in the middle of a line: a crash cut it, and the next event heals it."""
    trouble: str | None
    """What is wrong; None when nothing is."""
    place: Place | None = None
    """Where."""


@dataclass(frozen=True, slots=True)
class Raw:
    """A line as it lies there."""

    place: Place
    content: bytes
    line: chain.Line | None


class _WrongError(Exception):
    def __init__(self, trouble: str, place: Place | None) -> None:
        super().__init__(trouble)
        self.trouble = trouble
        self.place = place


def read(place: Path) -> Iterator[Raw]:
    """Every line of a log, as it was when this was called; writers are held up only while sizes are read.

    What follows the last newline of a file comes too, without one.
    """
    found = folder.files(place)
    if not found:
        return
    with folder.locked(place, shared=True):
        sizes = [(path, path.stat().st_size) for path in folder.files(place)]
    for path, size in sizes:
        left = size
        with path.open("rb") as file:
            number = 0
            while left > 0:
                # A line that does not end is read in pieces: none is longer than a line may be.
                content = file.readline(min(left, chain.MOST_LINE + 1))
                left -= len(content)
                number += 1
                yield Raw(Place(path.name, number), content, _decoded(content))


def verify(place: Path, heads: Sequence[chain.Head] = ()) -> Verdict:
    """Check every line, and that each of ``heads``, which were taken earlier, is in the chain.

    A log whose oldest files were taken away needs the head before its first line.
    """
    walk = _Walk({head.sequence: head for head in heads})
    trouble, where = None, None
    try:
        for raw in read(place):
            walk.take(raw)
        walk.finish(heads)
    except _WrongError as wrong:
        trouble, where = wrong.trouble, wrong.place
    return Verdict(walk.first, walk.head, len(folder.files(place)), tuple(walk.healed), bool(walk.torn), trouble, where)


class _Walk:
    """The state of a check between two lines."""

    def __init__(self, heads: dict[int, chain.Head]) -> None:
        self._heads = heads
        self.first: int | None = None
        self.head: chain.Head | None = None
        self._last: Place | None = None
        self._doubted: tuple[Raw, Place | None] | None = None
        """A line that disagrees with the one before it; the next one tells which of them is wrong."""
        self.torn: list[Raw] = []
        """What is no line, and may be described by the next one."""
        self.healed: list[Place] = []

    def take(self, raw: Raw) -> None:
        if raw.line is None:
            self._settle(None)
            self.torn.append(raw)
            return
        if self._doubted is not None:
            self._settle(raw.line)
        line = raw.line
        self._heal(line)
        if self.first is None:
            self._begin(line, raw.place)
        expected = 1 if self.head is None else self.head.sequence + 1
        if line.sequence > expected:
            what = _lines(expected, line.sequence - 1)
            raise _WrongError(f"{what} missing before it, or moved: it is line {line.sequence} of the log", raw.place)
        twice = line.sequence == expected - 1
        if line.sequence < expected and not twice:
            raise _WrongError(f"line {line.sequence} stands here a second time, or was moved here", raw.place)
        if twice or not chain.follows(line, self.head):
            self._doubted = (raw, self._last)
            return
        self._accept(line, raw.place)

    def finish(self, heads: Sequence[chain.Head]) -> None:
        self._settle(None)
        if self.torn and any(raw.content.endswith(b"\n") for raw in self.torn):
            raise _WrongError("it is not what was written", self.torn[0].place)
        last = 0 if self.head is None else self.head.sequence
        for head in heads:
            if head.sequence > last:
                raise _WrongError(
                    f"{_lines(last + 1, head.sequence)} missing at the end: a head knows of it", self._last
                )
            if self.first is not None and head.sequence < self.first - 1:
                raise _WrongError(f"line {head.sequence}, which a head given names, is not here any more", None)

    def _begin(self, line: chain.Line, place: Place) -> None:
        self.first = line.sequence
        before = self._heads.get(line.sequence - 1)
        if line.sequence == 1:
            return
        if before is None:
            raise _WrongError(f"{_lines(1, line.sequence - 1)} missing before it", place)
        self.head = before

    def _accept(self, line: chain.Line, place: Place) -> None:
        known = self._heads.get(line.sequence)
        if known is not None and known != line.head:
            raise _WrongError(f"line {line.sequence} is not the one that a head given names: it was altered", place)
        self.head, self._last = line.head, place

    def _heal(self, line: chain.Line) -> None:
        """What is no line must be described by the next line."""
        if not self.torn:
            return
        content = b"".join(raw.content for raw in self.torn)
        facts = line.members.get("facts") or {}
        told = (facts.get("torn_bytes"), facts.get("torn_sha256"))
        if line.members.get("what") != What.LOG_HEALED or told != (len(content), hashlib.sha256(content).hexdigest()):
            raise _WrongError("it is not what was written", self.torn[0].place)
        for raw in self.torn:
            if raw.content.endswith(_LINE_END):  # which no crash leaves of a line that is none
                raise _WrongError("it was altered while it was the last line", raw.place)
        self.healed.append(self.torn[0].place)
        self.torn = []

    def _settle(self, following: chain.Line | None) -> None:
        """Who is wrong: a line that disagrees with the one before it, or that one?"""
        if self._doubted is None:
            return
        raw, before = self._doubted
        line = raw.line
        vouched = line is not None and following is not None and following.previous == line.digest
        if before is not None and (vouched or following is None):
            raise _WrongError("it was altered or put in: the line after it knows another one", before)
        raise _WrongError("it was altered or put in: it does not follow the line before it", raw.place)


def _decoded(content: bytes) -> chain.Line | None:
    try:
        return chain.decode(content)
    except chain.LineError:
        return None


def _lines(first: int, last: int) -> str:
    return f"line {first} is" if first == last else f"lines {first} to {last} are"

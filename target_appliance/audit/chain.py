"""A line of the audit log, and how lines hang together. Pure.

A line is canonical JSON and a newline. ``previous`` is the digest of the line before, ``~digest``, the last member,
that of the line itself: SHA-256 of the line as it would be without it. So an altered line shows by itself, and one that
was altered with its digest shows by the next.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from target_appliance.seal.selfcheck import canonical

GENESIS: Final = "0" * 64
"""``previous`` of the very first line."""
MOST_LINE: Final = 64 << 10
"""Bytes of the longest line."""
_MEMBER: Final = b',"~digest":"'
_END: Final = b'"}\n'
_TAIL: Final = len(_MEMBER) + 64 + len(_END)


@dataclass(frozen=True, slots=True)
class Head:
    """The newest line: what vouches for all before it."""

    sequence: int
    digest: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line that agrees with itself."""

    sequence: int
    previous: str
    digest: str
    members: dict[str, Any]

    @property
    def head(self) -> Head:
        """This line as the newest one."""
        return Head(self.sequence, self.digest)


class LineError(Exception):
    """Bytes that no writer wrote."""


def encode(after: Head | None, members: Mapping[str, Any]) -> tuple[bytes, Head]:
    """The line for ``members`` that follows ``after``, and the head it makes.

    Raises:
        ValueError: it would be longer than a line may be.
    """
    sequence, previous = (1, GENESIS) if after is None else (after.sequence + 1, after.digest)
    body = canonical({**members, "sequence": sequence, "previous": previous})
    digest = hashlib.sha256(body + b"\n").hexdigest()
    line = body[:-1] + _MEMBER + digest.encode("ascii") + _END
    if len(line) > MOST_LINE:
        raise ValueError("an event is too long for the audit log")
    return line, Head(sequence, digest)


def decode(line: bytes) -> Line:
    """The line, its newline included.

    Raises:
        LineError: it is not what ``encode`` made.
    """
    body = line[:-_TAIL] + b"}"
    digest = hashlib.sha256(body + b"\n").hexdigest()
    if len(line) > MOST_LINE or line[-_TAIL:] != _MEMBER + digest.encode("ascii") + _END:
        raise LineError("its own digest does not fit")
    try:
        members = json.loads(body)
        sequence, previous = members["sequence"], members["previous"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise LineError("it is no line of an audit log") from None
    if type(sequence) is not int or sequence < 1 or not isinstance(previous, str):
        raise LineError("it is no line of an audit log")
    return Line(sequence, previous, digest, members)


def follows(line: Line, before: Head | None) -> bool:
    """Whether ``line`` is the next one."""
    sequence, digest = (1, GENESIS) if before is None else (before.sequence + 1, before.digest)
    return (line.sequence, line.previous) == (sequence, digest)

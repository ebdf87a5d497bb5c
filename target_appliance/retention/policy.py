"""A retention policy: what of a replica is kept, written as ``last=10 hourly=24 daily=7 within=3d``. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from common.errors import InvalidInputError

COUNTS: Final = ("last", "hourly", "daily", "weekly", "monthly", "yearly")
"""Rules that keep a number of points."""
SPANS: Final = ("within", "min_interval")
"""Rules that are lengths of time."""
_MOST: Final = 100_000
_UNITS: Final = {"y": 365 * 86400, "w": 7 * 86400, "d": 86400, "h": 3600, "m": 60}
_UNIT_WORDS: Final = ((86400, "day"), (3600, "hour"), (60, "minute"))
_MOST_SECONDS: Final = 1000 * _UNITS["y"]
_SPAN: Final = re.compile(r"(?:[1-9][0-9]{0,5}[ywdhm])+")
_HELP: Final = "such as last=10 hourly=24 daily=7 weekly=5 monthly=12 yearly=3 within=3d min-interval=15m"


@dataclass(frozen=True, slots=True)
class Policy:
    """What is kept; 0 where a rule is not set. A point that several rules keep counts for each of them."""

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: int = 0
    """Seconds before the newest point: all in it are kept."""
    min_interval: int = 0
    """Seconds: ``last`` counts one point of each such stretch of time."""

    def members(self) -> dict[str, int]:
        """For a file and for ``--json``: the rules that are set."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def of_members(cls, members: Mapping[str, Any]) -> "Policy":
        """What ``members`` wrote. Raises ValueError."""
        known = {field.name for field in fields(cls)}
        if set(members) - known or any(type(value) is not int for value in members.values()):
            raise ValueError("a policy has other rules")
        policy = cls(**members)
        if trouble := policy.trouble():
            raise ValueError(trouble)
        return policy

    def __str__(self) -> str:
        """As it is typed."""
        told = [f"{name}={getattr(self, name)}" for name in COUNTS if getattr(self, name)]
        spans = [f"{name.replace('_', '-')}={_short(getattr(self, name))}" for name in SPANS if getattr(self, name)]
        return " ".join((*told, *spans))

    def trouble(self) -> str | None:
        """Why there can be no such policy; None if there can."""
        if not self.members():
            return "no rule is set, which would keep the newest point alone"
        if any(not 0 <= getattr(self, name) <= _MOST for name in COUNTS):
            return f"a rule keeps 1 to {_MOST} points"
        if any(not 0 <= getattr(self, name) <= _MOST_SECONDS for name in SPANS):
            return "a length of time is between a minute and 1000 years"
        if self.min_interval and not self.last:
            return "min-interval says which points last counts, and last is not set"
        return None


def parse(words: Iterable[str]) -> Policy:
    """The policy that ``words``, each one or more rules, spell out.

    Raises:
        InvalidInputError: they spell out none.
    """
    values: dict[str, int] = {}
    for rule in " ".join(words).split():
        name, _, value = rule.partition("=")
        name = name.removeprefix("keep-").replace("-", "_")
        if name not in (*COUNTS, *SPANS):
            raise _refused(f"{rule[:40]!a} is no rule")
        if name in values:
            raise _refused(f"{name.replace('_', '-')} is given twice")
        values[name] = _count(rule, value) if name in COUNTS else span(value)
    policy = Policy(**values)
    if trouble := policy.trouble():
        raise _refused(trouble)
    return policy


def span(text: str) -> int:
    """Seconds in a length of time such as ``36h`` or ``1y6w``; a year is 365 days. Raises InvalidInputError."""
    if not _SPAN.fullmatch(text):
        raise _refused(f"{text[:40]!a} is no length of time (y, w, d, h and m for minutes, such as 3d or 1w12h)")
    return sum(int(count) * _UNITS[unit] for count, unit in re.findall(r"([0-9]+)([ywdhm])", text))


def words(seconds: int) -> str:
    """A length of time for a sentence: ``7 days``."""
    for size, word in _UNIT_WORDS:
        if seconds % size == 0:
            return f"{seconds // size} {word}" + ("" if seconds == size else "s")
    return f"{seconds} seconds"


def _short(seconds: int) -> str:
    told = ""
    for unit in ("d", "h", "m"):
        count, seconds = divmod(seconds, _UNITS[unit])
        told += f"{count}{unit}" if count else ""
    return told


def _count(rule: str, value: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,5}", value):
        raise _refused(f"{rule[:40]!a} names no number of points")
    return int(value)


def _refused(why: str) -> InvalidInputError:
    return InvalidInputError(why, subject="policy", next_step=f"give rules {_HELP}")

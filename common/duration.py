"""Lengths of time as people write them: ``90s``, ``15m``, ``4h``, ``7d``."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

from common.errors import InvalidInputError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WRITTEN = re.compile(r"([1-9][0-9]{0,5})([smhd])")


def _parse(value: Any) -> float:
    match = _WRITTEN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('should be a number and s, m, h or d, in quotes, such as "15m"')
    return float(int(match[1]) * _UNITS[match[2]])


Duration = Annotated[float, BeforeValidator(_parse)]
"""A length of time in a configuration file; seconds once it is read."""


def typed(text: str, subject: str) -> float:
    """Seconds of a length of time that a person typed as ``subject``. Raises InvalidInputError."""
    try:
        return _parse(text)
    except ValueError:
        raise InvalidInputError(
            f"{text[:20]!a} is not a length of time",
            subject=subject,
            next_step="give a number and s, m, h or d, such as 15m",
        ) from None


def spoken(seconds: float) -> str:
    """The time in the two largest units that it has, such as ``2h 5m``; whole seconds."""
    rest = max(0, round(seconds))
    parts = []
    for unit in "dhms":
        count, rest = divmod(rest, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2]) or "0s"

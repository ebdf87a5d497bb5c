"""Structured logging to standard error: fixed messages plus fields, one word per field.

Field names are those of DESIGN.md's table of words (tenant, replica, disk, sync, point …). Nothing that may hold guest
data or a secret is ever a field; as a last line of defence, values under tell-tale names are replaced and byte strings
are shown as their length only.
"""

import logging
import sys
import traceback
from pathlib import Path
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, WrappedLogger

SECRET_WORDS = ("password", "secret", "passphrase", "token", "private", "dek")


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for key, value in event.items():
        if any(word in key for word in SECRET_WORDS):
            event[key] = "***"
        elif isinstance(value, (bytes, bytearray, memoryview)):
            event[key] = f"<{len(value)} bytes>"
    return event


def configure(*, level: str = "info", style: Literal["json", "console"] = "console") -> None:
    """Set up logging for the process, vendor libraries included (warnings and worse of theirs only)."""
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if style == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    threshold = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s", force=True)


def get(name: str) -> Any:
    """A logger whose lines carry ``part=name``."""
    # Initial values keep the logger lazy: one made at import time still follows what `configure` says later.
    return structlog.get_logger(part=name)


def where(error: BaseException) -> list[str]:
    """Where ``error`` came from, innermost last, as ``file:line function``; never its text, which may hold anything."""
    return [
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]

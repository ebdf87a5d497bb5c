"""Waiting for what can be observed, with a limit that fails the test; nothing here waits for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_STEP_SECONDS = 0.01


def until(what: str, found: Callable[[], T], seconds: float = 30.0) -> T:
    """The first answer of ``found`` that is true; ``what`` says in the failure what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        answer = found()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} seconds")
        time.sleep(_STEP_SECONDS)

"""SIGTERM and SIGINT as an event that a serving process waits for."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stopped_by_signals(stopping: threading.Event) -> Iterator[None]:
    """Either signal sets ``stopping`` for the length of the block; to be called by the main thread."""
    kept = {
        number: signal.signal(number, lambda _number, _frame: stopping.set())
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)

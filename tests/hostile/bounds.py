"""How large the process may grow."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

MOST_GROWTH_BYTES = 20 << 20


@contextmanager
def bounded_memory() -> Iterator[None]:
    """The block leaves the process no more than MOST_GROWTH_BYTES larger."""
    process = psutil.Process()
    gc.collect()
    before = process.memory_info().rss
    yield
    gc.collect()
    grown = process.memory_info().rss - before
    print(f"grown by {grown / (1 << 20):.1f} MiB")
    assert grown <= MOST_GROWTH_BYTES

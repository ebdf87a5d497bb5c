"""Files that are memory alone: what a guest writes or shows during a drill touches no medium."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def memory_file(name: str, content: bytes = b"") -> Iterator[int]:
    """A descriptor that child processes may inherit, of a file that is gone when nobody holds it any more."""
    handle = os.memfd_create(name)
    try:
        written = 0
        while written < len(content):
            written += os.pwrite(handle, content[written:], written)
        yield handle
    finally:
        os.close(handle)


def content_of(handle: int) -> bytes:
    """All bytes of it."""
    return os.pread(handle, os.fstat(handle).st_size, 0)

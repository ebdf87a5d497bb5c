"""Memory for data keys: pages that are locked and left out of dumps as far as that is allowed, slots that are wiped.

What Python cannot promise: a KMS driver's answer, and the keys derived for a point, are immutable ``bytes``; they are
overwritten when the allocator reuses their memory, not before.
"""

import ctypes
import hmac
import mmap
import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

SLOT_BYTES: Final = 32
_PAGES_BYTES: Final = mmap.PAGESIZE


@dataclass(frozen=True, slots=True)
class Usage:
    """How much memory there is for keys."""

    bytes: int
    locked_bytes: int
    """Never swapped out; less than ``bytes`` where RLIMIT_MEMLOCK is too small."""
    held: int
    """Keys in it now."""


class KeyMemory:
    """Slots for keys. Thread-safe, and safe in finalizers: giving a slot back takes no lock."""

    def __init__(self) -> None:
        self._growing = threading.Lock()
        self._free: deque[memoryview] = deque()
        self._bytes = 0
        self._locked = 0

    def hold(self, value: bytes | bytearray) -> "Held":
        """A copy of a key of SLOT_BYTES, wiped when the last reference to it goes."""
        if len(value) != SLOT_BYTES:
            raise ValueError(f"a key has {SLOT_BYTES} bytes")
        return Held(self._slot(), value, self._free)

    def usage(self) -> Usage:
        """See Usage."""
        return Usage(self._bytes, self._locked, self._bytes // SLOT_BYTES - len(self._free))

    def _slot(self) -> memoryview:
        while True:
            with suppress(IndexError):
                return self._free.pop()
            with self._growing:
                if not self._free:
                    self._grow()

    def _grow(self) -> None:
        pages = mmap.mmap(-1, _PAGES_BYTES)
        with suppress(OSError):
            pages.madvise(mmap.MADV_DONTDUMP)
        address = ctypes.addressof(ctypes.c_char.from_buffer(pages))
        locked = ctypes.CDLL(None).mlock(ctypes.c_void_p(address), ctypes.c_size_t(_PAGES_BYTES)) == 0
        self._bytes += _PAGES_BYTES
        self._locked += _PAGES_BYTES if locked else 0
        view = memoryview(pages)
        self._free.extend(view[at : at + SLOT_BYTES] for at in range(0, _PAGES_BYTES, SLOT_BYTES))


class Held:
    """One key in a slot. Never shows its value in a representation."""

    __slots__ = ("_free", "_slot", "view")

    def __init__(self, slot: memoryview, value: bytes | bytearray, free: deque[memoryview]) -> None:
        self._slot = slot
        self._free = free
        slot[:] = value
        self.view = slot[:]
        """The key's bytes; not to be kept longer than this object."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Held) and hmac.compare_digest(self.view, other.view)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "Held()"

    def __del__(self) -> None:
        # Released first: whoever kept the view fails from then on, and cannot read the slot's next key.
        self.view.release()
        self._slot[:] = bytes(SLOT_BYTES)
        self._free.append(self._slot)


MEMORY: Final = KeyMemory()
"""This process's."""

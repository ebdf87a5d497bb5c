"""A guest that goes on writing while it is replicated."""

import random
import threading
from typing import Self

from tests.lab.guest import GuestDisk


class GuestAtWork:
    """Writes small pieces at random places of some disks until it is stopped.

    Args:
        disks: what it writes to; each must be larger than a piece.
        seed: of places and bytes.
    """

    def __init__(self, disks: list[GuestDisk], seed: int = 7) -> None:
        self._disks = disks
        self._rng = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="guest", daemon=True)
        self.writes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.1):
            disk = self._rng.choice(self._disks)
            length = self._rng.choice((512, 4096, 16384))
            disk.write(self._rng.randrange((disk.size - length) // 512) * 512, self._rng.randbytes(length))
            self.writes += 1

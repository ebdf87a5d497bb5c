"""A guest that writes at random, the same for the same seed."""

import os
import random

from tests.lab.guest import GuestDisk

SECTOR = 512
GRAIN = 65536
SEED_VARIABLE = "KEYSAPART_SEED"


def seed() -> int:
    """A new one each time, unless the environment names the one to replay; printed, so that a failure can be."""
    told = int(os.environ.get(SEED_VARIABLE, "0")) or random.SystemRandom().randrange(1, 1 << 31)
    print(f"replay with {SEED_VARIABLE}={told}")
    return told


class RandomGuest:
    """Writes to some disks; each ``step`` is one thing that guests do."""

    def __init__(self, seed: int, disks: list[GuestDisk]) -> None:
        self._rng = random.Random(seed)
        self._disks = disks
        self.done: dict[str, int] = {}

    def work(self, steps: int) -> None:
        """Do some things, of every kind where there are enough steps."""
        kinds = [
            self._aligned,
            self._unaligned,
            self._sectors,
            self._zeros,
            self._same_again,
            self._last_sector,
            self._discard,
            self._several_in_one_grain,
            self._back_and_forth,
            self._across_grains,
        ]
        chosen = [kinds[place % len(kinds)] for place in range(steps)]
        self._rng.shuffle(chosen)
        for kind in chosen:
            kind(self._rng.choice(self._disks))
            self.done[kind.__name__] = self.done.get(kind.__name__, 0) + 1

    def _content(self, length: int) -> bytes:
        """Bytes of the kinds that differ for a compressor: noise, text, one value, and a little of both."""
        kind = self._rng.randrange(4)
        if kind == 0:
            return self._rng.randbytes(length)
        if kind == 1:
            words = [self._rng.randbytes(3).hex().encode() for _ in range(64)]
            return b" ".join(self._rng.choices(words, k=length // 6))[:length].ljust(length, b".")
        if kind == 2:
            return bytes([self._rng.randrange(1, 256)]) * length
        noise = self._rng.randbytes(length // 2)
        return noise + bytes(length - len(noise))

    def _place(self, disk: GuestDisk, most: int, unit: int) -> tuple[int, int]:
        length = min(self._rng.randrange(1, most // unit + 1) * unit, disk.size)
        return self._rng.randrange((disk.size - length) // unit + 1) * unit, length

    def _aligned(self, disk: GuestDisk) -> None:
        offset, length = self._place(disk, 4 * GRAIN, GRAIN)
        disk.write(offset, self._content(length))

    def _unaligned(self, disk: GuestDisk) -> None:
        offset, length = self._place(disk, 2 * GRAIN, 1)
        disk.write(offset, self._content(length))

    def _sectors(self, disk: GuestDisk) -> None:
        offset, length = self._place(disk, 2 * GRAIN, SECTOR)
        disk.write(offset, self._content(length))

    def _zeros(self, disk: GuestDisk) -> None:
        """Over data, and mostly over whole grains, so that grains become zeros."""
        offset, length = self._place(disk, 6 * GRAIN, self._rng.choice((SECTOR, GRAIN, GRAIN)))
        disk.write(offset, bytes(length))

    def _same_again(self, disk: GuestDisk) -> None:
        offset, length = self._place(disk, 8 * GRAIN, SECTOR)
        disk.write(offset, disk.read(offset, length))

    def _last_sector(self, disk: GuestDisk) -> None:
        disk.write(disk.size - SECTOR, self._content(SECTOR))

    def _discard(self, disk: GuestDisk) -> None:
        offset, length = self._place(disk, 8 * GRAIN, self._rng.choice((4096, GRAIN)))
        disk.discard(offset, length)

    def _several_in_one_grain(self, disk: GuestDisk) -> None:
        first = self._rng.randrange(disk.size // GRAIN) * GRAIN
        for sector in self._rng.sample(range(GRAIN // SECTOR), 5):
            disk.write(first + sector * SECTOR, self._content(SECTOR))

    def _back_and_forth(self, disk: GuestDisk) -> None:
        """Another content, then the old one: tracked, and nothing changed."""
        offset, length = self._place(disk, GRAIN, SECTOR)
        old = disk.read(offset, length)
        disk.write(offset, self._content(length))
        disk.write(offset, old)

    def _across_grains(self, disk: GuestDisk) -> None:
        border = self._rng.randrange(1, disk.size // GRAIN) * GRAIN
        disk.write(border - SECTOR, self._content(2 * SECTOR))

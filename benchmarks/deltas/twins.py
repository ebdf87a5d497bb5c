"""The guest's disk as the agent sees it: once encrypted below the guest, once inside it.

Both twins have a partition from 1 MiB on and the same capacity. The LUKS payload starts at a whole MiB of the disk, as
cryptsetup aligns it: qemu would start it in the middle of a grain, which would be unfair.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from benchmarks.disk import MIB, data_extents
from benchmarks.peer_nbd import create_luks
from common.extent import Extent, split

ROOM = 4 * MIB
"""What a disk has beyond the file system's image."""
_PIECE = 16 * MIB


class Twin(Protocol):
    """One of both; offsets of writes and discards are the image's as they go in, the disk's as they come out."""

    name: str
    disk: Path
    """The disk as a raw file."""

    def header(self) -> tuple[tuple[int, bytes], ...]:
        """What lies on the disk before the guest's first write: (offset on the disk, data)."""
        ...

    def writes(self, pieces: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        """What the agent sees of the guest's writes."""
        ...

    def discards(self, extents: Iterable[Extent]) -> tuple[Extent, ...]:
        """What the agent sees of the guest's discards."""
        ...


class Below:
    """VM encryption: the host encrypts below the guest, and the agent, an encrypted VM itself, reads the clear."""

    name = "image-level"

    def __init__(self, disk: Path) -> None:
        self.disk = disk

    def header(self) -> tuple[tuple[int, bytes], ...]:
        """Nothing."""
        return ()

    def writes(self, pieces: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        """The same bytes, a partition further."""
        for offset, data in pieces:
            yield MIB + offset, data

    def discards(self, extents: Iterable[Extent]) -> tuple[Extent, ...]:
        """All of them."""
        return tuple(Extent(MIB + extent.offset, extent.length) for extent in extents)


class Inside:
    """LUKS (AES-256-XTS, plain64) in the guest, without discards, as crypttab has it unless told otherwise.

    Args:
        disk: where the raw file goes; it is made.
        size: bytes of the guest's image.
    """

    name = "LUKS in the guest"

    def __init__(self, disk: Path, size: int) -> None:
        self.disk = disk
        self._container = disk.with_suffix(".luks")
        self._pieces = disk.with_suffix(".pieces")
        key = disk.with_suffix(".key")
        key.write_text("bench")
        self._secret = f"secret,id=s,file={key}"
        create_luks(self._container, str(size), self._secret, disk.with_suffix(".log"))
        said = subprocess.run(
            ["qemu-img", "info", "--output=json", self._container], check=True, capture_output=True
        ).stdout
        self._payload = int(json.loads(said)["format-specific"]["data"]["payload-offset"])
        self._container_at = MIB + -self._payload % MIB

    def header(self) -> tuple[tuple[int, bytes], ...]:
        """What formatting wrote."""
        with self._container.open("rb") as container:
            return ((self._container_at, container.read(self._payload)),)

    def writes(self, pieces: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        """The ciphertext, as qemu writes it into the container."""
        commands, places = [], []
        self._pieces.mkdir()
        for number, (offset, data) in enumerate(pieces):
            piece = self._pieces / str(number)
            piece.write_bytes(data)
            commands.append(f"write -q -s {piece} {offset} {len(data)}\n")
            places.append((offset, len(data)))
        options = f"driver=luks,key-secret=s,file.driver=file,file.filename={self._container}"
        command = ["qemu-io", "--object", self._secret, "--image-opts", options]
        subprocess.run(command, input="".join(commands), text=True, check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(self._pieces)
        with self._container.open("rb") as container:
            for offset, length in places:
                sealed = os.pread(container.fileno(), length, self._payload + offset)
                yield self._container_at + self._payload + offset, sealed

    def discards(self, _: Iterable[Extent]) -> tuple[Extent, ...]:
        """None."""
        return ()


def content_of(image: Path) -> Iterator[tuple[int, bytes]]:
    """Everything that was ever written to an image: (offset, data) of at most 16 MiB each."""
    with image.open("rb") as file:
        for extent in split((Extent(*found) for found in data_extents(image)), _PIECE):
            yield extent.offset, os.pread(file.fileno(), extent.length, extent.offset)

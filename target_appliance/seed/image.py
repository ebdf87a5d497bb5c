"""An image of a whole disk that somebody carried here: raw, or a VMDK of any maker. Only read, never copied."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from common.closing import Closing
from common.errors import InvalidInputError
from common.extent import Extent
from common.grain import MAX_CAPACITY_BYTES
from target_appliance.seed import descriptor, sparse
from target_appliance.seed.descriptor import ExtentKind, ForeignDescriptor, ForeignExtent
from target_appliance.seed.source_file import SourceFile, refuse
from target_appliance.seed.sparse import SparseExtent
from target_appliance.vmdk.descriptor import ADAPTERS
from target_appliance.vmdk.layout import SECTOR_BYTES

_CONTAINERS = (sparse.MAGIC, descriptor.MAGIC, b"COWD", b"QFI\xfb", b"conectix", b"vhdxfile")


class Part(Protocol):
    """Some of a disk's bytes in a row; offsets count from its first."""

    def allocated(self) -> Iterator[Extent]:
        """Where it may hold anything but zeros, rising."""
        ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Put bytes into ``buffer``, which is all zeros. Raises InvalidInputError."""
        ...


@dataclass(frozen=True, slots=True)
class FlatPart:
    """Bytes of a file as they are."""

    file: SourceFile
    offset_bytes: int
    length_bytes: int

    def allocated(self) -> Iterator[Extent]:
        """See Part."""
        for extent in self.file.data(self.offset_bytes, self.offset_bytes + self.length_bytes):
            yield Extent(extent.offset - self.offset_bytes, extent.length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """See Part."""
        self.file.read_into(self.offset_bytes + offset, buffer)


class Image(Closing):
    """A whole disk. Thread-safe. ``open_image`` makes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.adapter = ADAPTERS[0]
        """The disk controller's kind, as descriptors name it."""
        self._files = ExitStack()
        self._parts: list[tuple[Extent, Part | None]] = []
        self._changed = 0

    @property
    def capacity_bytes(self) -> int:
        """Of the disk."""
        return self._parts[-1][0].end if self._parts else 0

    @property
    def changed(self) -> int:
        """When the newest of its files was last written, in seconds since 1970."""
        return self._changed

    def allocated(self) -> Iterator[Extent]:
        """Where the disk may hold anything but zeros, rising."""
        for place, part in self._parts:
            for extent in part.allocated() if part else ():
                yield Extent(place.offset + extent.offset, extent.length)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Put the bytes from ``offset`` on into ``buffer``, which is all zeros. Raises InvalidInputError."""
        for place, part in self._parts:
            begin, end = max(offset, place.offset), min(offset + len(buffer), place.end)
            if begin < end and part:
                part.read_into(begin - place.offset, buffer[begin - offset : end - offset])

    def close(self) -> None:
        """Let go of all files."""
        self._files.close()

    def open_file(self, path: Path) -> SourceFile:
        """A file of the image, which closes with it."""
        file = self._files.enter_context(SourceFile(path))
        self._changed = max(self._changed, file.changed)
        return file

    def add(self, length_bytes: int, part: Part | None) -> None:
        """The next bytes of the disk; None for zeros."""
        self._parts.append((Extent(self.capacity_bytes, length_bytes), part))


def open_image(path: Path) -> Image:
    """The disk in the file at ``path``; the caller closes it.

    The name says what it is: a VMDK if it ends in .vmdk, but for a flat extent (-flat.vmdk), else raw. The content is
    never asked: a guest writes the first bytes of its raw disk, and could make a descriptor of other files of them.

    Raises:
        NotFoundError: a file of it is not there.
        InvalidInputError: it is no whole disk that can be read, or its capacity cannot be.
    """
    with ExitStack() as undo:
        image = undo.enter_context(Image(path))
        file = image.open_file(path)
        start = file.read_at(0, min(SECTOR_BYTES, file.size))
        name = path.name.lower()
        if not name.endswith(".vmdk") or name.endswith("-flat.vmdk"):
            if start.startswith(_CONTAINERS):
                raise refuse(path, "it begins as a disk container does, but its name says raw")
            image.add(file.size, FlatPart(file, 0, file.size))
        elif start.startswith(sparse.MAGIC):
            _add_sparse(image, file)
        elif start.startswith(descriptor.MAGIC):
            _add_described(image, file)
        else:
            raise refuse(path, "it is no VMDK, or the delta of a snapshot")
        _check_capacity(image)
        undo.pop_all()
    return image


def _add_sparse(image: Image, file: SourceFile) -> None:
    extent = SparseExtent(file)
    if (raw := extent.descriptor(descriptor.MOST_BYTES)).strip(b"\0"):
        image.adapter = _parsed(file, raw).adapter
    image.add(extent.capacity_bytes, extent)


def _add_described(image: Image, file: SourceFile) -> None:
    if file.size > descriptor.MOST_BYTES:
        raise refuse(file.path, "its descriptor is too long")
    described = _parsed(file, file.read_at(0, file.size))
    image.adapter = described.adapter
    files: dict[str, SourceFile] = {}
    for extent in described.extents:
        if extent.kind is ExtentKind.ZERO:
            image.add(extent.length_bytes, None)
            continue
        if extent.file_name not in files:
            files[extent.file_name] = image.open_file(file.path.with_name(extent.file_name))
        image.add(extent.length_bytes, _part(files[extent.file_name], extent))


def _part(file: SourceFile, extent: ForeignExtent) -> Part:
    if extent.kind is ExtentKind.FLAT:
        if extent.offset_bytes + extent.length_bytes > file.size:
            raise refuse(file.path, "it is shorter than its descriptor says")
        return FlatPart(file, extent.offset_bytes, extent.length_bytes)
    part = SparseExtent(file)
    if part.capacity_bytes != extent.length_bytes:
        raise refuse(file.path, "its capacity is not what its descriptor says")
    return part


def _parsed(file: SourceFile, raw: bytes) -> ForeignDescriptor:
    try:
        return descriptor.parse(raw)
    except ValueError as error:
        raise refuse(file.path, str(error)) from None


def _check_capacity(image: Image) -> None:
    if not 0 < image.capacity_bytes <= MAX_CAPACITY_BYTES or image.capacity_bytes % SECTOR_BYTES:
        raise InvalidInputError(
            f"{image.path} holds {image.capacity_bytes} bytes, which no virtual disk has",
            subject=f"file {image.path}",
            next_step="give an image of whole sectors of 512 bytes, at most 62 TiB",
        )

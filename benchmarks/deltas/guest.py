"""The guest: its file system when it is new, and the steps of its workload as what they write to the disk."""

import dataclasses
import itertools
import os
import shutil
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.deltas import content, ext4
from benchmarks.deltas.writes import Step, common_part, differing
from benchmarks.disk import MIB
from common.extent import Extent, normalise, total
from tests.lab.guest import copy_data

_TABLE, _REDO = "/var/lib/db/orders.ibd", "/var/lib/db/redo.log"
_PROGRAMS = "/usr/lib/programs"
_LOGS = tuple(f"/var/log/{name}.log" for name in ("auth", "access", "app", "daemon", "kernel", "mail"))


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    image: int = 1024 * MIB
    table_pages: int = 8192
    page_writes: int = 2400
    redo: int = 16 * MIB
    log: int = 4 * MIB
    append: int = 2 * MIB
    rewrite: int = 32 * MIB
    upgraded: tuple[str, ...] = ("numpy", "sqlalchemy", "pygments", "cryptography")
    removed: tuple[str, ...] = ("grpc_tools", "hypothesis", "kmip", "google", "mypyc", "mypy")
    installed: tuple[str, ...] | None = None
    """Packages of the new system; None for all that this interpreter has."""


QUICK = Size(256 * MIB, 512, 150, MIB, MIB // 2, MIB // 4, 2 * MIB, ("rich",), ("kmip",), ("rich", "kmip", "pydantic"))


class Guest:
    """One file system image below ``work``.

    Its programs are the packages that this interpreter has installed: real text and machine code. The database and the
    logs are made by seed.
    """

    def __init__(self, work: Path, size: Size) -> None:
        self.image = work / "guest.img"
        self.fresh = work / "fresh.img"
        """The image as it was before the first step; what was never written is a hole."""
        self._work = work
        self._size = size
        self._rng = np.random.default_rng(20260314)
        self._pages: dict[int, bytes] = {}
        self._redo_at = 0
        self._time = 1_700_000_000
        self._freed: tuple[Extent, ...] = ()
        self._install()

    def _install(self) -> None:
        root, size = self._work / "root", self._size
        programs = root / _PROGRAMS[1:]
        library = Path(sysconfig.get_paths()["purelib"])
        packages = sorted(path for path in library.iterdir() if path.is_dir() and path.name != "__pycache__")
        for package in packages:
            if size.installed is None or package.name in size.installed:
                shutil.copytree(package, programs / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (_TABLE, _REDO, *_LOGS):
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        self._pages = {number: content.page(self._rng, number) for number in range(size.table_pages)}
        (root / _TABLE[1:]).write_bytes(b"".join(self._pages[number] for number in range(size.table_pages)))
        # A database makes its redo log of full length at once, and writes it round and round.
        (root / _REDO[1:]).write_bytes(
            b"".join(content.row(self._rng, key) for key in range(size.redo // content.ROW_BYTES))
        )
        for path in _LOGS:
            (root / path[1:]).write_bytes(content.log_lines(self._rng, size.log))
        ext4.make(self.image, size.image, root)
        shutil.rmtree(root)
        with self.image.open("rb") as image, self.fresh.open("wb") as fresh:
            fresh.truncate(size.image)
            copy_data(image.fileno(), fresh.fileno(), [(0, size.image)])

    def steps(self) -> Iterator[Step]:
        """The workload, each step done to the image when it is asked for; the file system is checked after each."""
        for do in (self._upgrade, self._database, self._logs, self._rewrite, self._remove):
            before = self._work / "before.img"
            shutil.copyfile(self.image, before)
            described, touched = do()
            ext4.check(self.image)
            extents = normalise([*differing(before, self.image), *touched])
            before.unlink()
            yield dataclasses.replace(described, writes=self._now(extents))

    def _now(self, extents: Iterable[Extent]) -> tuple[tuple[int, bytes], ...]:
        with self.image.open("rb") as image:
            return tuple((one.offset, os.pread(image.fileno(), one.length, one.offset)) for one in extents)

    def _upgrade(self) -> tuple[Step, tuple[Extent, ...]]:
        """As dpkg does it: all new files of a package beside the old ones, then each takes the old one's name."""
        count = written = 0
        commands: list[str] = []
        fresh = self._work / "fresh"
        fresh.mkdir()
        library = Path(sysconfig.get_paths()["purelib"])
        freed: list[Extent] = []
        with ext4.Files(self.image) as files:
            for package in self._size.upgraded:
                paths = _files(library / package)
                unpack, swap = [], []
                for path in paths:
                    new = content.next_version(self._rng, path.read_bytes())
                    count, written = count + 1, written + len(new)
                    (fresh / str(count)).write_bytes(new)
                    name = f"{_PROGRAMS}/{path.relative_to(library)}"
                    freed += files.extents(name)
                    unpack.append(f'write "{fresh / str(count)}" "{name}.new"')
                    swap += [f'rm "{name}"', f'ln "{name}.new" "{name}"', f'unlink "{name}.new"']
                commands += unpack + swap
        ext4.change(self.image, commands)
        shutil.rmtree(fresh)
        self._freed = normalise(freed)
        what = f"{count} files, {written / MIB:.0f} MiB, of {len(self._size.upgraded)} packages are replaced"
        return Step("package upgrade", what, ()), ()

    def _database(self) -> tuple[Step, tuple[Extent, ...]]:
        touched = []
        numbers = list(content.hot_pages(self._rng, self._size.table_pages, self._size.page_writes))
        with ext4.Files(self.image) as files:
            places, redo_places = (_Places(files.extents(path)) for path in (_TABLE, _REDO))
            for number in numbers:
                page, redo = content.updated(self._rng, self._pages[number], number)
                self._pages[number] = page
                files.write(_TABLE, number * content.PAGE_BYTES, page)
                touched += places.of(number * content.PAGE_BYTES, len(page))
                if self._redo_at + len(redo) > self._size.redo:
                    self._redo_at = 0
                files.write(_REDO, self._redo_at, redo)
                touched += redo_places.of(self._redo_at, len(redo))
                self._redo_at += len(redo)
        self._touch(_TABLE, _REDO)
        what = f"{len(numbers)} page writes of 16 KiB, {len(set(numbers))} distinct pages, and their redo log"
        return Step("database", what, ()), normalise(touched)

    def _logs(self) -> tuple[Step, tuple[Extent, ...]]:
        # In turn and in pieces, so that the files' new blocks interleave.
        piece = self._size.append // 8
        with ext4.Files(self.image) as files:
            for _, path in itertools.product(range(8), _LOGS):
                files.write(path, files.size(path), content.log_lines(self._rng, piece))
        self._touch(*_LOGS)
        what = f"{8 * piece * len(_LOGS) / MIB:.0f} MiB are appended to {len(_LOGS)} files"
        return Step("log appends", what, ()), ()

    def _rewrite(self) -> tuple[Step, tuple[Extent, ...]]:
        pages = self._size.rewrite // content.PAGE_BYTES
        with ext4.Files(self.image) as files:
            touched = _Places(files.extents(_TABLE)).of(0, pages * content.PAGE_BYTES)
            for number in range(pages):
                files.write(_TABLE, number * content.PAGE_BYTES, self._pages[number])
        self._touch(_TABLE)
        what = f"{self._size.rewrite / MIB:.0f} MiB of a file are written in place with the bytes they have"
        return Step("same bytes again", what, ()), touched

    def _remove(self) -> tuple[Step, tuple[Extent, ...]]:
        """Packages are removed, then the guest trims what this and the upgrade freed."""
        library = Path(sysconfig.get_paths()["purelib"])
        names = [
            f"{_PROGRAMS}/{path.relative_to(library)}"
            for package in self._size.removed
            for path in _files(library / package)
        ]
        with ext4.Files(self.image) as files:
            freed = [extent for name in names for extent in files.extents(name)]
        ext4.change(self.image, [f'rm "{name}"' for name in names])
        trimmed = common_part(normalise([*freed, *self._freed]), ext4.free(self.image))
        what = f"{len(names)} files are deleted, {total(trimmed) / MIB:.0f} MiB trimmed (fstrim)"
        return Step("delete and trim", what, (), trimmed), ()

    def _touch(self, *paths: str) -> None:
        self._time += 600
        ext4.change(self.image, [f"sif {path} mtime @{self._time}" for path in paths])


class _Places:
    """Where bytes of a file lie on the image."""

    def __init__(self, extents: tuple[Extent, ...]) -> None:
        self._extents = extents

    def of(self, offset: int, length: int) -> tuple[Extent, ...]:
        """The image's bytes for a range of the file, whose blocks must rise with it."""
        found, start = [], 0
        for extent in self._extents:
            begin, end = max(offset, start), min(offset + length, start + extent.length)
            if begin < end:
                found.append(Extent(extent.offset + begin - start, end - begin))
            start += extent.length
        return tuple(found)


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path for path in found if path.stat().st_size)

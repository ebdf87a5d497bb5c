"""A disk at a point, by byte: what is there, where it is zeros, and where it cannot be read."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common import log
from common.errors import KeysapartError
from common.grain import GRAIN_BYTES, ZERO_DIGEST, ZERO_GRAIN
from target_appliance.present.pieces import PIECE_GRAINS, Grains, Pieces
from target_appliance.recovery.chain import DiskView
from target_appliance.seal.fold import HOLE, Window

_log = log.get("present")

_PIECE_BYTES: Final = PIECE_GRAINS * GRAIN_BYTES
_FOLD_GRAINS: Final = 1024
_FOLDS_KEPT: Final = 64
"""Of 20 KiB each."""
_AHEAD: Final = 8
"""Pieces under way for one reader, who waits for the first of them."""
_EXTENTS_MOST: Final = 4096
_TOLD_MOST: Final = 1000
_ZERO: Final = np.frombuffer(ZERO_DIGEST, np.uint8)


class UnreadableError(Exception):
    """A grain cannot be read; the log says why."""

    def __init__(self, offset: int) -> None:
        super().__init__()
        self.offset = offset
        """First byte that was wanted of it."""


@dataclass(frozen=True, slots=True)
class Run:
    """Bytes that follow each other; ``data`` is None for zeros."""

    offset: int
    length: int
    data: tuple[memoryview, ...] | None


@dataclass(frozen=True, slots=True)
class _Fold:
    window: Window
    zeros: NDArray[np.bool_]
    """Of holes, and of grains that were written with zeros."""


class LiveDisk:
    """Thread-safe. ``view`` and ``pieces`` stay the caller's; ``number`` tells the disk from others of ``pieces``."""

    def __init__(self, name: str, view: DiskView, pieces: Pieces, number: int) -> None:
        self.name = name
        self.capacity_bytes = view.capacity_bytes
        self._view = view
        self._pieces = pieces
        self._number = number
        self._last = -(-view.grains // PIECE_GRAINS)
        self._lock = threading.Lock()
        self._folds: OrderedDict[int, _Fold] = OrderedDict()
        self._told: set[str] = set()

    def read(self, offset: int, length: int, *, goes_on: bool = False) -> Iterator[Run]:
        """The bytes from ``offset``, in order, a piece at most at a time; with ``goes_on`` what follows is read ahead.

        Raises:
            UnreadableError: what is stored there is damaged, or the store does not answer.
        """
        first, stop = offset // _PIECE_BYTES, -(-(offset + length) // _PIECE_BYTES)
        limit = min(self._last, stop + _AHEAD if goes_on else stop)
        begun = first
        for number in range(first, stop):
            while begun < min(number + _AHEAD, limit):
                self._begin(begun)
                begun += 1
            base = number * _PIECE_BYTES
            low, high = max(offset, base), min(offset + length, base + _PIECE_BYTES)
            yield from _runs(base, self._grains(number, low, high), low, high)

    def extents(self, offset: int, length: int) -> list[tuple[int, bool]]:
        """Lengths from ``offset`` on, and whether each reads as zeros; together at most ``length``, at least a byte.

        Raises:
            UnreadableError: a manifest is damaged, or the store does not answer.
        """
        found: list[tuple[int, bool]] = []
        at, stop = offset, offset + length
        while at < stop and len(found) < _EXTENTS_MOST:
            try:
                zeros = self._fold(at // GRAIN_BYTES // _FOLD_GRAINS).zeros
            except KeysapartError as error:
                self._tell(error)
                raise UnreadableError(at) from error
            place = at // GRAIN_BYTES % _FOLD_GRAINS
            other = np.flatnonzero(zeros[place:] != zeros[place])
            same = int(other[0]) if len(other) else len(zeros) - place
            end = min((at // GRAIN_BYTES + same) * GRAIN_BYTES, stop)
            if found and found[-1][1] == zeros[place]:
                found[-1] = (found[-1][0] + end - at, found[-1][1])
            else:
                found.append((end - at, bool(zeros[place])))
            at = end
        return found

    def _begin(self, number: int) -> None:
        """Have a piece read, if there is anything to read; what fails is told to whoever wants it."""
        try:
            window, zeros = self._part(number)
        except KeysapartError:
            return
        if not zeros.all():
            self._pieces.begin((self._number, number), partial(self._view.load, window))

    def _grains(self, number: int, low: int, high: int) -> Grains:
        """A piece's grains. Where it is not whole, those between the bytes ``low`` and ``high``, or an error."""
        first = number * PIECE_GRAINS
        try:
            window, zeros = self._part(number)
            if zeros.all():
                return [None] * len(zeros)
            return self._pieces.begin((self._number, number), partial(self._view.load, window)).result()
        except KeysapartError:
            pass
        wanted = range(low // GRAIN_BYTES, -(-high // GRAIN_BYTES))
        return [self._one(first + place, low) if first + place in wanted else None for place in range(PIECE_GRAINS)]

    def _one(self, grain: int, low: int) -> bytes | None:
        try:
            return self._view.read(grain, 1)[0]
        except KeysapartError as error:
            self._tell(error)
            raise UnreadableError(max(low, grain * GRAIN_BYTES)) from error

    def _part(self, number: int) -> tuple[Window, NDArray[np.bool_]]:
        first = number * PIECE_GRAINS
        fold = self._fold(first // _FOLD_GRAINS)
        rows = slice(first % _FOLD_GRAINS, first % _FOLD_GRAINS + PIECE_GRAINS)
        return Window(first, fold.window.layers[rows], fold.window.digests[rows]), fold.zeros[rows]

    def _fold(self, number: int) -> _Fold:
        with self._lock:
            if (found := self._folds.get(number)) is not None:
                self._folds.move_to_end(number)
                return found
        first = number * _FOLD_GRAINS
        window = self._view.fold(first, min(_FOLD_GRAINS, self._view.grains - first))
        made = _Fold(window, (window.layers == HOLE) | (window.digests == _ZERO).all(axis=1))
        with self._lock:
            self._folds[number] = made
            while len(self._folds) > _FOLDS_KEPT:
                self._folds.popitem(last=False)
        return made

    def _tell(self, error: KeysapartError) -> None:
        with self._lock:
            if error.message in self._told or len(self._told) >= _TOLD_MOST:
                return
            self._told.add(error.message)
        _log.error("a range cannot be read", export=self.name, cause=error.message, next_step=error.next_step)


def _runs(base: int, grains: Grains, low: int, high: int) -> Iterator[Run]:
    """The part between two bytes of a piece that begins at ``base``."""
    at = low
    while at < high:
        zeros = _zeros(grains[(at - base) // GRAIN_BYTES])
        begin, parts = at, []
        while at < high and _zeros(data := grains[(at - base) // GRAIN_BYTES]) is zeros:
            inside = (at - base) % GRAIN_BYTES
            length = min(GRAIN_BYTES - inside, high - at)
            if data is not None:
                parts.append(memoryview(data)[inside : inside + length])
            at += length
        yield Run(begin, at - begin, None if zeros else tuple(parts))


def _zeros(data: bytes | None) -> bool:
    return data is None or data == ZERO_GRAIN

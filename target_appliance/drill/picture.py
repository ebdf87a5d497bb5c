"""Pictures of a screen as qemu takes them (PPM, 8 bits a colour), and whether two show the same."""

import re
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from common.errors import InvalidInputError

_HEADER: Final = re.compile(rb"P6\s(\d{1,5})\s(\d{1,5})\s255\s")
_DIFFERS_MOST: Final = 0.02
"""Of the pixels: a clock, a cursor."""


def parse(content: bytes, what: str) -> NDArray[np.uint8]:
    """Rows, columns and colours of a picture called ``what``. Raises InvalidInputError."""
    header = _HEADER.match(content)
    if header is None or len(content) - header.end() != 3 * int(header[1]) * int(header[2]):
        raise InvalidInputError(
            f"{what} is not a PPM picture with 8 bits a colour",
            subject=what,
            next_step="give one that an earlier drill wrote with --picture",
        )
    return np.frombuffer(content, np.uint8, offset=header.end()).reshape(int(header[2]), int(header[1]), 3)


def load(path: Path) -> NDArray[np.uint8]:
    """The picture in a file. Raises InvalidInputError, OSError."""
    return parse(path.read_bytes(), f"file {path}")


def same(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Whether the two are equally large, and differ in few pixels only."""
    return one.shape == other.shape and float((one != other).any(axis=2).mean()) <= _DIFFERS_MOST

"""Bytes with something wrong with them: what networks, fuzzers and enemies do to a message."""

import random

EDGES = (0, 1, 0x7F, 0x80, 0xFF)
HEAD = 24
"""Where lengths and tags are."""


def mutated(rng: random.Random, good: bytes, other: bytes = b"") -> bytes:
    """``good`` with one to three changes, never equal to it; ``other`` lends it pieces."""
    while True:
        data = bytearray(good)
        for _ in range(rng.choice((1, 1, 1, 2, 3))):
            _change(rng, data, other or good)
        if data != good:
            return bytes(data)


def _change(rng: random.Random, data: bytearray, other: bytes) -> None:
    at = rng.randrange(len(data) + 1) if rng.random() < 0.5 else rng.randrange(min(HEAD, len(data) + 1))
    match rng.randrange(9):
        case 0 if at < len(data):
            data[at] ^= 1 << rng.randrange(8)
        case 1 if at < len(data):
            data[at] = rng.choice(EDGES)
        case 2 if at < len(data):
            data[at] = rng.randrange(256)
        case 3:
            del data[at:]
        case 4:
            del data[at : at + rng.randrange(1, 9)]
        case 5:
            data[at:at] = rng.randbytes(rng.randrange(1, 64))
        case 6:
            data[at : at + 16] = rng.randbytes(16)
        case 7:
            begin = rng.randrange(len(other))
            data[at:at] = other[begin : begin + rng.randrange(1, 64)]
        case _:
            # A number without an end, or one larger than any field holds.
            data[at : at + 1] = b"\xff" * rng.choice((4, 9, 10, 11)) + b"\x01"

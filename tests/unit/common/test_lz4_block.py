"""Both ways to LZ4: the C functions that the library's extension exports, and its Python functions."""

import os

import lz4.block
import pytest

from common import lz4_block
from common.grain import GRAIN_BYTES

TEXT = b"keysapart " * 6553 + b"......"
RANDOM = os.urandom(GRAIN_BYTES)


@pytest.fixture(params=["exported", "python"], autouse=True)
def _way(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr(lz4_block, "_compress", None)


@pytest.fixture
def target():
    return memoryview(bytearray(b"\xaa" * (GRAIN_BYTES + 16)))


@pytest.mark.parametrize("source", [TEXT, bytearray(TEXT)], ids=["read-only", "writable"])
def test_a_block_decodes_to_what_it_was(source, target):
    size = lz4_block.compress_into(memoryview(source), target[:GRAIN_BYTES])
    assert 0 < size < GRAIN_BYTES // 10
    assert lz4.block.decompress(target[:size], uncompressed_size=GRAIN_BYTES) == TEXT


def test_what_does_not_fit_is_none_and_nothing_is_written_past_the_end(target):
    assert lz4_block.compress_into(memoryview(RANDOM), target[: GRAIN_BYTES - 1]) == 0
    assert bytes(target[GRAIN_BYTES - 1 :]) == b"\xaa" * 17


def test_exactly_as_much_room_as_the_block_takes(target):
    size = lz4_block.compress_into(memoryview(TEXT), target)
    assert lz4_block.compress_into(memoryview(TEXT), target[:size]) == size
    assert lz4_block.compress_into(memoryview(TEXT), target[: size - 8]) == 0


def test_the_extension_exports_the_function():
    """Where it does not, all is well but slower; the locked release does."""
    assert lz4_block._exported_compress() is not None

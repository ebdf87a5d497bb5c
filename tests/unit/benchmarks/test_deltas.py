"""The deltas' workload is what its page says, both twins see the same writes, and the figures land in their place."""

import lz4.block
import numpy as np
import pytest

from benchmarks.deltas import content
from benchmarks.deltas.figures import CONTESTANTS, Figure, summed
from benchmarks.deltas.table import markdown, placed
from benchmarks.deltas.twins import ROOM, Below, Inside, content_of
from benchmarks.deltas.writes import BLOCK_BYTES, common_part, differing
from benchmarks.disk import MIB
from common.extent import Extent
from common.grain import GRAIN_BYTES


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def ratio(data: bytes) -> float:
    pieces = [data[at : at + GRAIN_BYTES] for at in range(0, len(data) - GRAIN_BYTES + 1, GRAIN_BYTES)]
    return sum(len(lz4.block.compress(piece, store_size=False)) for piece in pieces) / len(pieces) / GRAIN_BYTES


def test_an_updated_page_keeps_most_of_its_rows(rng):
    old = content.page(rng, 3)
    new, redo = content.updated(rng, old, 3)
    apart = sum(one != other for one, other in zip(old, new, strict=True))

    assert len(old) == len(new) == content.PAGE_BYTES
    assert len(redo) in {content.ROW_BYTES * rows for rows in range(1, 5)}
    assert 0 < apart <= len(redo) + 28
    assert redo[: content.ROW_BYTES] in new


def test_pages_and_logs_compress_as_such_data_does(rng):
    assert 0.3 < ratio(b"".join(content.page(rng, number) for number in range(16))) < 0.5
    assert 0.35 < ratio(content.log_lines(rng, 4 * GRAIN_BYTES)) < 0.6


def test_four_of_five_page_writes_are_hot(rng):
    numbers = list(content.hot_pages(rng, 1000, 5000))

    assert 0.77 < sum(number < 200 for number in numbers) / len(numbers) < 0.83
    assert all(0 <= number < 1000 for number in numbers)
    assert max(numbers) > 900


def test_a_next_version_compresses_the_same_and_repeats_no_grain(rng):
    old = content.log_lines(rng, 4 * GRAIN_BYTES)
    new = content.next_version(rng, old)
    grains = [{data[at : at + GRAIN_BYTES] for at in range(0, len(data), GRAIN_BYTES)} for data in (old, new)]

    assert len(old) < len(new) < len(old) + 300
    assert abs(ratio(new) - ratio(old)) < 0.05
    assert not grains[0] & grains[1]
    assert content.next_version(rng, b"x") == b"xx"


def test_blocks_that_differ(tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    data = bytearray(8 * BLOCK_BYTES)
    before.write_bytes(data)
    for at in (BLOCK_BYTES, 3 * BLOCK_BYTES - 1, 7 * BLOCK_BYTES + 5):
        data[at] = 1
    after.write_bytes(data)

    assert differing(before, after) == (Extent(BLOCK_BYTES, 2 * BLOCK_BYTES), Extent(7 * BLOCK_BYTES, BLOCK_BYTES))
    assert differing(after, after) == ()


def test_common_part():
    these = (Extent(0, 10), Extent(20, 10), Extent(40, 10))
    those = (Extent(5, 20), Extent(28, 14), Extent(60, 1))

    assert common_part(these, those) == (Extent(5, 5), Extent(20, 5), Extent(28, 2), Extent(40, 2))
    assert common_part(those, these) == common_part(these, those)
    assert common_part(these, ()) == ()


def test_below_the_guest_the_agent_sees_its_bytes(tmp_path):
    twin = Below(tmp_path / "disk")

    assert list(twin.writes([(512, b"x")])) == [(MIB + 512, b"x")]
    assert twin.discards([Extent(0, 512)]) == (Extent(MIB, 512),)
    assert twin.header() == ()


def test_inside_the_guest_ciphertext_hangs_on_sector_and_content_only(tmp_path):
    size = 4 * MIB
    twin = Inside(tmp_path / "disk", size)
    text = b"plain text " * 2048
    first, again, elsewhere = (
        list(twin.writes([(offset, text[: 4 * BLOCK_BYTES])])) for offset in (0, 0, size - 4 * BLOCK_BYTES)
    )
    ((header_at, header),) = twin.header()

    assert first == again
    assert first[0][0] % MIB == 0
    assert header_at + len(header) == first[0][0]
    assert header.startswith(b"LUKS")
    assert elsewhere[0][0] + 4 * BLOCK_BYTES <= size + ROOM
    assert elsewhere[0][1] != first[0][1] != text[: 4 * BLOCK_BYTES]
    assert len(lz4.block.compress(first[0][1], store_size=False)) > 4 * BLOCK_BYTES
    assert twin.discards([Extent(0, 512)]) == ()


def test_holes_were_never_written(tmp_path):
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
        file.seek(40 * MIB)
        file.write(b"y" * (17 * MIB))
    found = list(content_of(image))

    assert [(offset, len(data)) for offset, data in found] == [(40 * MIB, 8 * MIB), (48 * MIB, 9 * MIB)]


def figures():
    return [
        Figure(twin, step, 10, 9, name, MIB * size, 0.25)
        for twin, size in (("below", 1), ("inside", 3))
        for step in ("upgrade", "logs")
        for name in CONTESTANTS
    ]


def test_table_has_each_step_of_each_twin_and_their_sum():
    lines = markdown(figures()).splitlines()

    assert len({line.count("|") for line in lines}) == 1
    assert [line.split(" | ")[:2] for line in lines[2:]] == [
        [f"| {step}", twin] for step in ("upgrade", "logs", "all steps") for twin in ("below", "inside")
    ]
    assert lines[-1] == "| all steps | inside | 20 | 18 | 6.0 | 0.50 | 6.0 | 0.50 | 6.0 | 0.50 |"
    assert summed(figures(), "below", CONTESTANTS[1]).sent_bytes == 2 * MIB


def test_the_table_takes_the_place_of_the_last_one():
    page = "a\n<!-- figures, written by make deltas -->\n<!-- end of figures -->\nb\n"
    once = placed(page, "one\n")

    assert once == page.replace("-->\n<!-- end", "-->\none\n<!-- end")
    assert placed(placed(page, "\\2 two\n"), "one\n") == once
    with pytest.raises(ValueError, match="0 places"):
        placed("a", "one")

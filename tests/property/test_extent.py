"""Extent algebra against the plainest model there is: a set of byte numbers."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from common.extent import Extent, above, normalise, round_to_grains, split, total
from common.grain import GRAIN_BYTES

_extents = st.lists(st.builds(Extent, st.integers(0, 60), st.integers(0, 20)), max_size=8)
_large = st.lists(st.builds(Extent, st.integers(0, 9 * GRAIN_BYTES), st.integers(0, 3 * GRAIN_BYTES)), max_size=6)


def _bytes(extents):
    return {place for extent in extents for place in range(extent.offset, extent.end)}


def _is_normal(extents):
    return all(extent.length > 0 for extent in extents) and all(
        left.end < right.offset for left, right in itertools.pairwise(extents)
    )


@given(_extents)
def test_normalise_keeps_the_bytes(extents):
    result = normalise(extents)
    assert _is_normal(result)
    assert _bytes(result) == _bytes(extents)
    assert total(result) == len(_bytes(extents))


@given(_extents, st.integers(0, 90))
def test_above_keeps_what_lies_behind(extents, offset):
    rest = above(normalise(extents), offset)
    assert _is_normal(rest)
    assert _bytes(rest) == {place for place in _bytes(extents) if place >= offset}


@given(_extents, st.integers(1, 16))
def test_split_cuts_at_multiples_only(extents, most):
    whole = normalise(extents)
    parts = list(split(whole, most))
    assert _bytes(parts) == _bytes(whole)
    assert all(part.length <= most and part.offset // most == (part.end - 1) // most for part in parts)


@given(_large, st.integers(1, 10 * GRAIN_BYTES))
def test_rounding_covers_whole_grains_and_stops_at_the_capacity(extents, capacity):
    result = round_to_grains(extents, capacity)
    assert _is_normal(result)
    for extent in result:
        assert extent.offset % GRAIN_BYTES == 0
        assert extent.end % GRAIN_BYTES == 0 or extent.end == capacity
    wanted = {place // GRAIN_BYTES for e in extents if e.length for place in (e.offset, e.end - 1)}
    covered = {grain for e in result for grain in range(e.offset // GRAIN_BYTES, -(-e.end // GRAIN_BYTES))}
    last = -(-capacity // GRAIN_BYTES)
    assert {grain for grain in wanted if grain < last} <= covered
    assert covered <= {
        grain for e in extents if e.length for grain in range(e.offset // GRAIN_BYTES, (e.end - 1) // GRAIN_BYTES + 1)
    }

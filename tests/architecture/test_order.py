"""The order in which workers get the tests: none is lost, and long ones stand where workers begin."""

import random
import re
from itertools import pairwise

import pytest

from tests.architecture.tree import TOP
from tests.order import SECONDS, dealt

LONG = [f"tests/end_to_end/test_{name}.py::test_{number}" for name in "abcdefg" for number in range(3)]
SHORT = [f"tests/unit/test_{name}.py::test_{number}" for name in "abcdefghij" for number in range(20)]


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 8])
def test_each_workers_stretch_begins_with_long_ones(workers):
    mixed = random.Random(workers).sample(LONG + SHORT, len(LONG + SHORT))
    order = dealt(mixed, mixed, workers)
    assert sorted(order) == sorted(mixed)
    begin = 0
    for place in range(workers):
        stretch = order[begin : begin + (len(order) - begin) // (workers - place)]
        begin += len(stretch)
        is_long = [one in LONG for one in stretch]
        assert is_long[0] == (place < 7)
        assert is_long == sorted(is_long, reverse=True)


def test_tests_of_a_file_stay_together():
    order = dealt(LONG + SHORT, LONG + SHORT, 3)
    files = [one.partition("::")[0] for one in order if one in LONG]
    assert len(set(files)) == 1 + sum(one != other for one, other in pairwise(files))


def test_fewer_tests_than_workers():
    assert dealt("ab", ["tests/unit/a", "tests/end_to_end/b"], 4) in (list("ab"), list("ba"))
    assert dealt("", [], 2) == []


@pytest.mark.parametrize("entry", SECONDS)
def test_every_entry_still_names_a_test(entry):
    path, _, name = entry.partition("::")
    assert (TOP / path).exists()
    assert not name or re.search(rf"^def {name.rstrip('[')}\(", (TOP / path).read_text(), re.MULTILINE)

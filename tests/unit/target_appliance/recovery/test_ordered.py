"""Work on threads: results in order, bounded ahead, first failure surfaces."""

import threading

import pytest

from target_appliance.recovery.file_pool import FilePool
from target_appliance.recovery.ordered import ordered_map
from target_appliance.store.memory import MemoryStore


def test_results_come_in_order_whatever_finishes_first():
    turn = threading.Event()

    def work(item):
        if item == 0:
            assert turn.wait(10)
        elif item == 1:
            turn.set()
        return item * item

    assert list(ordered_map(work, range(100))) == [(item, item * item) for item in range(100)]
    assert list(ordered_map(work, [])) == []


def test_items_are_pulled_a_bounded_number_ahead():
    pulled = []

    def items():
        for item in range(1000):
            pulled.append(item)
            yield item

    for item, _ in ordered_map(lambda item: item, items()):
        assert len(pulled) - item <= 17
    assert len(pulled) == 1000


def test_the_first_failure_surfaces_in_order():
    def work(item):
        if item in {5, 7}:
            raise ValueError(item)
        return item

    seen = []
    with pytest.raises(ValueError, match="5"):
        seen.extend(item for item, _ in ordered_map(work, range(100)))


def test_a_consumer_may_stop():
    for item, _ in ordered_map(lambda item: item, range(1000)):
        if item == 3:
            break
    assert threading.active_count() < 20


def test_a_pool_keeps_a_bounded_number_of_files_open():
    store = MemoryStore()
    for number in range(10):
        with store.create(f"f{number}") as file:
            file.append([bytes([number]) * 10])
    pool = FilePool(store, most=3)
    with pool.file("f0") as first:
        files = [first, *(pool.file(f"f{number}") for number in range(1, 10))]
    for _ in range(3):
        for number, file in enumerate(files):
            assert (file.read_at(8, 5), file.size) == (bytes([number]) * 2, 10)
            assert len(pool._open) <= 3
    pool.close()
    assert pool._open == {}

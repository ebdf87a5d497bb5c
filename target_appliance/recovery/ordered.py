"""Work on a few threads whose results are wanted in order, a bounded number ahead."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREADS_MOST: Final = 4
_AHEAD: Final = 4
"""Items under way per thread; memory is that many results."""


def ordered_map(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Each item with the result of ``work``, in order. ``items`` is pulled by the calling thread.

    Raises:
        Exception: the first one that ``work`` or ``items`` raised, in order.
    """
    threads = min(_THREADS_MOST, os.cpu_count() or 1)
    under_way: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                under_way.append((item, pool.submit(work, item)))
                if len(under_way) >= threads * _AHEAD:
                    first, future = under_way.popleft()
                    yield first, future.result()
            while under_way:
                first, future = under_way.popleft()
                yield first, future.result()
        finally:
            for _, future in under_way:
                future.cancel()

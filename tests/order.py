"""In which order the tests run where workers share them: what lasts long begins first, spread over all of them.

pytest-xdist's worksteal gives each worker one stretch of the list, as many tests to each; who has no more takes from
the end of the longest rest. So each stretch begins with long tests and ends with short ones: those are left to take
over, and at the end nobody waits for one who has begun a long test late. The seconds need only be about right.
"""

from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")

SECONDS = {
    "tests/end_to_end/test_canary.py": 40,
    "tests/end_to_end/test_canary_keys.py": 40,
    "tests/end_to_end/test_cbt_pitfalls.py": 80,
    "tests/end_to_end/test_chain.py": 70,
    "tests/end_to_end/test_damage.py": 35,
    "tests/end_to_end/test_failover.py": 20,
    "tests/end_to_end/test_failover_cuts.py": 160,
    "tests/end_to_end/test_failover_refusals.py": 50,
    "tests/end_to_end/test_faults.py": 60,
    "tests/end_to_end/test_kill.py::test_agent_killed_at_random_moments": 50,
    "tests/end_to_end/test_kill.py::test_appliance_killed_at_every_step_of_a_commit": 50,
    "tests/end_to_end/test_kill.py::test_appliance_killed_at_random_moments": 90,
    "tests/end_to_end/test_many.py": 50,
    "tests/end_to_end/test_refusals.py": 90,
    "tests/end_to_end/test_resume.py": 90,
    "tests/end_to_end/test_rotation.py": 50,
    "tests/end_to_end/test_run.py": 90,
    "tests/end_to_end/test_seed.py": 40,
    "tests/end_to_end/test_vcenter_refusals.py": 50,
    "tests/end_to_end/": 15,
    "tests/fuzz/test_fuzz.py::test_nothing_breaks_it_in_a_minute[": 60,
    "tests/hostile/": 15,
    "tests/hostile/test_poisoned_points.py": 30,
    "tests/property/test_histories.py": 85,
    "tests/property/test_merge_kills.py": 70,
    "tests/property/test_merges.py": 25,
    "tests/unit/source_agent/schedule/test_day.py": 40,
}
"""What lasts long, by how its node id begins, the longest such beginning.

Tests of one entry stay together, because some share a fixture; but ``/`` at its end makes it one entry a file, and
``[`` one a test.
"""


def dealt(items: Iterable[T], node_ids: Iterable[str], workers: int) -> list[T]:
    """The items in their new order; the same for the same arguments."""
    long: dict[str, list[T]] = {}
    short: list[T] = []
    for item, node_id in zip(items, node_ids, strict=True):
        key = _key(node_id)
        (short if key is None else long.setdefault(key, [])).append(item)
    hands: list[list[T]] = [[] for _ in range(workers)]
    busy = [0] * workers
    for key in sorted(long, key=lambda key: (-SECONDS[_known(key)], key)):
        least = busy.index(min(busy))
        hands[least] += long[key]
        busy[least] += SECONDS[_known(key)]
    left = len(short) + sum(map(len, hands))
    order: list[T] = []
    for place, hand in enumerate(hands):
        size = left // (workers - place)
        filled = max(0, size - len(hand))
        order += hand + short[:filled]
        short = short[filled:]
        left -= len(hand) + filled
    return order + short


def _key(node_id: str) -> str | None:
    """The entry that the test belongs to; None for a short one."""
    known = _known(node_id)
    if known.endswith("/"):
        return node_id.partition("::")[0]
    return node_id if known.endswith("[") else known or None


def _known(text: str) -> str:
    return max((start for start in SECONDS if text.startswith(start)), key=len, default="")

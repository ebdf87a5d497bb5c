"""The rule by which points are merged, over long random histories: what it writes, leaves dead, how many folders."""

import random

import numpy as np
import pytest

from common.ids import DiskKey, PointNumber
from target_appliance.recovery.merge_plan import FAN, Sized, Slot, choose
from target_appliance.vmdk.layout import empty_bytes

pytestmark = pytest.mark.usefixtures("uncovered")

CAPACITY = 32 << 20
FRAME = empty_bytes(CAPACITY, alone=True)


class History:
    """Points of one disk as sizes of grains, with drops and merges carried out in the model."""

    def __init__(self):
        self.points = []
        """Lowest first: number, whether dropped, bytes by grain, how many it absorbed."""
        self.sent = self.written = 0

    def sync(self, grains):
        self.points.append([PointNumber((len(self.points) and self.points[-1][0] + 1) or 1), False, grains, 0])
        self.sent += FRAME + sum(grains.values())

    def drop(self, number):
        next(point for point in self.points if point[0] == number)[1] = True

    def runs(self):
        found, run = [], []
        for point in self.points:
            run.append(point)
            if not point[1]:
                if len(run) > 1:
                    found.append(run)
                run = []
        return found

    def reclaim(self):
        while True:
            runs = self.runs()
            going = choose(
                [[point[0] for point in run[:-1]] for run in runs],
                [sized(run) for run in runs],
                {point[0]: point[3] for point in self.points},
            )
            if not going:
                return
            (run,) = (run for run in runs if going & {point[0] for point in run})
            places = [place for place, point in enumerate(run) if point[0] in going]
            top = run[places[-1] + 1]
            merged = {}
            for point in run[places[0] : places[-1] + 2]:
                merged.update(point[2])
            top[2], top[3] = merged, top[3] + sum(1 + point[3] for point in run[places[0] : places[-1] + 1])
            self.written += FRAME + sum(merged.values())
            self.points = [point for point in self.points if point[0] not in going]

    def dead_share(self):
        """Dead bytes of all runs, as a share of the live ones."""
        most = 0.0
        for run in self.runs():
            whole = {}
            for point in run:
                whole.update(point[2])
            live = FRAME + sum(whole.values())
            held = sum(FRAME + sum(point[2].values()) for point in run)
            most = max(most, (held - live) / live)
        return most


def sized(run):
    count = len(run)
    held = np.zeros((count, count + 1), np.int64)
    above = {}
    for place in reversed(range(count)):
        for grain, size in run[place][2].items():
            held[place, above.get(grain, count)] += size
            above[grain] = place
    files = tuple(FRAME + sum(point[2].values()) for point in run)
    grains = tuple(len(point[2]) for point in run)
    slot = Slot(files, (CAPACITY,) * count, (True,) * count, grains, held)
    return Sized(DiskKey(2000), tuple(point[0] for point in run), (slot,))


@pytest.mark.parametrize("seed", range(12))
def test_bounds_over_long_random_histories(seed):
    rng = random.Random(seed)
    history, universe = History(), rng.choice([60, 400, 3000])
    keep, most = rng.choice([1, 5, 30]), rng.choice([2, 20, 60])
    history.sync(dict.fromkeys(range(universe), 40000))
    for point in range(2, 220):
        spread = rng.choice([universe, max(1, universe // 10)])
        touched = (rng.randrange(spread) for _ in range(rng.randrange(most)))
        history.sync({grain: rng.randrange(1, 129) * 512 for grain in touched})
        kept = [one[0] for one in history.points if not one[1]]
        if rng.random() < 0.3:
            history.drop(rng.choice(kept[:-1]))
        elif len(kept) > keep + 1:
            history.drop(kept[0])
        if rng.random() < 0.5 or point == 219:
            history.reclaim()
            assert history.dead_share() <= 0.5
            assert max((len(run) - 1 for run in history.runs()), default=0) <= 3 * FAN
            assert history.written <= 3 * history.sent
    assert history.written


def test_a_small_delta_onto_a_big_base_is_not_worth_it_until_there_are_many():
    history = History()
    history.sync(dict.fromkeys(range(1000), 65536))
    deltas, at = 0, 0
    for number in range(2, 300):
        grains = {(at + place) % 1000: 65536 for place in range(10)}
        at += 10
        history.sync(grains)
        deltas += sum(grains.values()) + FRAME
        history.drop(number - 1)
        history.reclaim()
        assert history.written <= 3 * deltas
        assert len(history.points) <= 3 * FAN
    assert history.written


def test_a_thousand_small_points_are_tens_of_folders():
    history = History()
    history.sync(dict.fromkeys(range(200), 65536))
    for number in range(2, 1200):
        history.sync({number % 200: 512})
        history.drop(number - 1)
        if number % 50 == 0:
            history.reclaim()
            assert len(history.points) <= 4 * FAN
    assert history.written <= 3 * history.sent

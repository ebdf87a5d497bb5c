"""Trusted time: whatever is done to the wall clock, nothing comes sooner than the monotonic clock says, or a day."""

import itertools
import random

import pytest

from target_appliance.recovery import small_file
from target_appliance.retention.clock import FILE, FOLDER, MOST_OVER_A_BOOT, TrustedTime
from target_appliance.store.memory import MemoryStore
from tests.fakes.clock import START, ManualClock

YEARS = 10 * 365 * 86400
T0 = int(START.timestamp())


class Machine:
    """One store, and processes and boots that come and go."""

    def __init__(self, floor=None):
        self.store, self.clock, self.floor = MemoryStore(), ManualClock(), floor
        self._boots = map(str, itertools.count())
        self.boot()

    def boot(self, off=0.0):
        self.clock.jump(off)
        self.clock._monotonic = 5.0
        self.name = next(self._boots)
        self.start()

    def start(self):
        self.time = TrustedTime(self.store, self.clock, lambda: self.floor, self.name)
        return self.time.now()

    def save(self):
        self.time.now()
        self.clock.advance(61)
        self.time.save()


def test_it_is_the_wall_clock_as_long_as_nobody_sets_that():
    machine = Machine()
    for seconds in (1, 60, 86400, 400 * 86400):
        machine.clock.advance(seconds)
        assert machine.time.now() == machine.time.wall()
        machine.save()
    machine.boot(off=3600)
    assert (machine.time.lag(), machine.time.now()) == (0, machine.time.wall())


def test_a_clock_that_is_set_ahead_brings_nothing_forward():
    machine = Machine()
    machine.clock.advance(2 * 86400)
    before = machine.start()
    machine.save()
    machine.clock.jump(YEARS)
    machine.clock.advance(3600)
    assert machine.time.now() - before <= 3600 + 61 + MOST_OVER_A_BOOT
    for _ in range(100):
        machine.start()
        machine.save()
    assert machine.time.now() - before <= 3600 + 101 * 61 + MOST_OVER_A_BOOT


@pytest.mark.parametrize("years", [YEARS, -YEARS])
def test_a_clock_that_is_set_moves_nothing_while_the_machine_runs(years):
    machine = Machine()
    machine.clock.advance(3600)
    before = machine.time.now()
    machine.clock.jump(years)
    machine.clock.advance(86400)
    assert machine.time.now() == before + 86400
    machine.save()
    assert machine.start() == before + 86400 + 61
    machine.clock.jump(-years)
    assert machine.time.now() == machine.time.wall()


def test_booting_again_and_again_gains_nothing():
    machine = Machine()
    machine.clock.advance(40 * 86400)
    machine.save()
    before, ran = machine.time.now(), 0
    machine.clock.jump(YEARS)
    for _ in range(500):
        machine.boot()
        machine.save()
        ran += 61
    assert machine.time.now() - before <= 2 * (ran + MOST_OVER_A_BOOT)
    assert machine.time.lag() > YEARS - 3 * 86400


def test_a_machine_that_boots_with_a_wrong_clock_catches_up_when_it_is_put_right():
    machine = Machine()
    machine.clock.advance(3 * 86400)
    machine.save()
    machine.boot(off=-YEARS)
    machine.clock.advance(30)
    machine.clock.jump(YEARS + 7200)
    assert machine.time.lag() == 0


def test_a_machine_that_was_off_catches_up_by_a_day_at_most():
    machine = Machine()
    machine.clock.advance(40 * 86400)
    machine.save()
    machine.boot(off=7 * 86400)
    machine.clock.advance(60)
    assert machine.time.lag() == 6 * 86400


def test_a_process_that_starts_anew_in_the_same_boot_goes_on_as_if_it_had_not_ended():
    machine = Machine()
    machine.clock.advance(3 * 86400)
    machine.save()
    machine.clock.advance(20 * 86400)
    assert machine.start() == machine.time.wall()


@pytest.mark.parametrize("content", [None, b"{}", b"not JSON", {"time": 1}, {"time": "x"}])
def test_without_the_mark_it_goes_on_from_the_newest_point(content):
    machine = Machine()
    machine.save()
    machine.store.remove_tree(FOLDER)
    machine.store.make_folder(FOLDER)
    if isinstance(content, dict):
        small_file.write(machine.store, f"{FOLDER}/{FILE}", content)
    elif content is not None:
        with machine.store.create(f"{FOLDER}/{FILE}") as file:
            file.append([content])
            file.sync()
    machine.floor = T0 - 3600
    machine.clock.jump(YEARS)
    assert machine.start() == T0 - 3600 + MOST_OVER_A_BOOT


def test_a_kernel_that_names_no_boot_makes_each_start_one():
    machine = Machine()
    machine.name = ""
    machine.start()
    machine.save()
    machine.clock.jump(YEARS)
    assert machine.start() <= T0 + 61 + MOST_OVER_A_BOOT


@pytest.mark.parametrize("seed", range(50))
def test_whatever_is_done_to_it_it_rises_and_never_faster_than_it_may(seed):
    rng, machine = random.Random(seed), Machine()
    ran, last, boots = 0.0, machine.time.now(), 0
    for _ in range(200):
        act = rng.randrange(6)
        if act < 2:
            seconds = rng.choice((1, 3600, 86400))
            machine.clock.advance(seconds)
            ran += seconds
        elif act == 2:
            machine.clock.jump(rng.choice((-YEARS, -3600, 3600, YEARS)) if abs(machine.time.lag()) < YEARS else 0)
        elif act == 3:
            machine.save()
            ran += 61
        elif act == 4:
            machine.save()
            ran += 61
            machine.start()
        else:
            machine.save()
            ran += 61
            machine.boot()
            boots += 1
        now = machine.time.now()
        assert now >= last
        assert now - T0 <= ran + (boots + 1) * MOST_OVER_A_BOOT
        assert now - T0 <= 2 * ran + 2 * MOST_OVER_A_BOOT
        last = now


def test_it_is_written_once_a_minute():
    machine = Machine()
    machine.time.save()
    first = small_file.read(machine.store, f"{FOLDER}/{FILE}")
    machine.clock.advance(59)
    machine.time.save()
    assert small_file.read(machine.store, f"{FOLDER}/{FILE}") == first
    machine.clock.advance(1)
    machine.time.save()
    assert small_file.read(machine.store, f"{FOLDER}/{FILE}") != first

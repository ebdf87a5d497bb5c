"""500 VMs with mixed RPOs for 24 hours. ``Day`` holds bounds and order of every single step against its own count."""

import pytest

from source_agent.schedule.book import Book
from source_agent.schedule.decide import Limits
from source_agent.schedule.policy import policy_of
from tests.unit.source_agent.schedule.day import HOUR, MINUTE, POLICIES, Day, site

pytestmark = pytest.mark.usefixtures("uncovered")

AMPLE = Limits(syncs=24, per_host=4, per_datastore=4)


def test_with_room_enough_no_rpo_is_missed():
    day = Day(Book(AMPLE, started=0.0), site())
    day.run(24 * HOUR)
    assert day.misses == []
    assert set(day.points) == set(day.machines)
    for vm in day.book.vms.values():
        assert day.longest_gap[vm.replica] <= vm.policy.rpo
    # Nobody syncs much more often than his RPO asks for.
    assert sum(day.attempts.values()) < sum(24 * HOUR / (vm.policy.rpo / 4) for vm in day.book.vms.values())


def test_scheduled_compares_are_spread_and_none_is_left_out():
    day = Day(Book(AMPLE, started=0.0), site())
    day.run(40 * HOUR)
    wanted = {vm.replica for vm in day.book.vms.values() if vm.policy.compare_every}
    assert wanted == set(+day.compares)
    assert day.misses == []


def test_a_datastore_that_is_too_slow_is_named_and_nobody_else_suffers():
    machines = site()
    for machine in machines.values():
        if machine.placement.datastores == ("ds3",):
            machine.seconds = min(0.12 * policy_of(machine.placement, POLICIES).rpo, 40 * MINUTE)
    day = Day(Book(Limits(syncs=48, per_host=6, per_datastore=2), started=0.0), machines, migrations=False)
    day.run(24 * HOUR)
    # Why none of this can be helped: this datastore's VMs need more places than it has. No other's do.
    assert day.demand("ds3") > 2
    assert all(day.demand(f"ds{other}") < 1.5 for other in range(20) if other != 3)
    assert day.misses
    for miss in day.misses:
        assert "ds3" in machines[miss.replica].placement.datastores
        assert miss.cause == "capacity"
        assert "datastore ds3" in miss.sentence
    elsewhere = {replica for replica, one in machines.items() if "ds3" not in one.placement.datastores}
    assert elsewhere <= set(day.points)


def test_under_overload_everybody_still_gets_his_turn():
    limits = Limits(syncs=4, per_host=2, per_datastore=2)
    day = Day(Book(limits, started=0.0), site(seconds=40.0), check_every=10)
    day.run(48 * HOUR)
    work = sum(machine.seconds for machine in day.machines.values())
    assert day.busiest == limits.syncs
    assert {miss.cause for miss in day.misses} == {"capacity"}
    assert set(day.points) == set(day.machines)
    # A round of all VMs takes the work of one sync each over four places, the first one six times that. Nobody waits
    # longer than two rounds beyond his RPO.
    for vm in day.book.vms.values():
        assert day.longest_gap[vm.replica] <= vm.policy.rpo + 2 * 6 * 1.25 * work / limits.syncs


def test_failures_back_off_and_are_the_reason_that_is_given():
    machines = site()
    for number, machine in enumerate(machines.values()):
        machine.fails = (0.02, 1.0)[number % 50 == 0]
    day = Day(Book(AMPLE, started=0.0), machines)
    day.run(24 * HOUR)
    broken = {replica for replica, machine in machines.items() if machine.fails == 1.0}
    assert {miss.replica for miss in day.misses if miss.cause == "failing"} >= broken
    assert set(day.points) == set(machines) - broken
    for miss in day.misses:
        assert miss.cause == "failing"
        assert "the target does not answer" in miss.sentence
    for replica in broken:
        rpo = day.book.vms[replica].policy.rpo
        assert 24 * HOUR / HOUR <= day.attempts[replica] <= 12 + 24 * HOUR / (min(HOUR, rpo / 2) / 2)


@pytest.mark.parametrize("seed", range(5))
def test_other_days_are_no_worse(seed):
    day = Day(Book(AMPLE, started=0.0), site(count=120, hosts=4, datastores=5, seed=seed), seed=seed)
    day.run(8 * HOUR)
    assert [miss for miss in day.misses if miss.cause != "failing"] == []


def test_a_vm_on_two_datastores_is_not_starved_by_those_on_one():
    """With one place each, one or the other is always taken; the late VM keeps the next that comes free."""
    machines = site(count=40, hosts=40, datastores=2, seconds=12 * MINUTE)
    both = [one for one in machines.values() if len(one.placement.datastores) == 2]
    assert both
    day = Day(Book(Limits(syncs=40, per_host=2, per_datastore=1), started=0.0), machines, migrations=False)
    day.run(60 * HOUR)
    assert all(day.points[one.placement.instance_uuid] for one in both)

"""One VM or two, step by step."""

import dataclasses

import pytest

from source_agent.schedule.book import Book, Known
from source_agent.schedule.decide import Limits
from source_agent.schedule.policy import Policy
from tests.unit.source_agent.schedule.day import HOUR, MINUTE, place

RPO = HOUR
WEB, DB = place("web01", "esx1", ("ds1",)), place("db01", "esx1", ("ds2",))
POLICY = Policy(rpo=RPO)


def book(*placements, limits=None, known=None, policy=POLICY, now=1000.0):
    made = Book(limits or Limits(), started=now)
    made.refresh(now, placements, (policy,), known or {})
    return made


def only(found):
    (one,) = found
    return one


def test_a_new_vm_is_synced_at_once_and_then_before_half_of_its_rpo_is_over():
    one = book(WEB)
    started = only(one.step(1000.0).start)
    assert (started.vm.name, started.compare, started.waited) == ("web01", False, 0.0)
    assert one.step(1001.0).start == ()
    one.finished(1100.0, WEB.instance_uuid, 1, read_all=True)
    vm = one.vms[WEB.instance_uuid]
    # The age counts from the start; the jitter makes it earlier, never later.
    assert 1000.0 + 0.375 * RPO <= vm.due <= 1000.0 + RPO / 2
    assert vm.deadline == 1000.0 + RPO
    step = one.step(1100.0)
    assert step.start == ()
    assert step.wake == vm.due
    assert only(one.step(vm.due).start).vm is vm


def test_a_long_sync_is_due_earlier():
    one = book(WEB)
    vm = one.vms[WEB.instance_uuid]
    vm.committed(1, 1000.0, 0.4 * RPO, read_all=False)
    assert 1000.0 <= vm.due <= 1000.0 + 0.2 * RPO
    vm.committed(2, 1000.0, 2 * RPO, read_all=False)
    assert vm.due == 1000.0


def test_full_and_compare_say_nothing_of_a_delta():
    vm = book(WEB).vms[WEB.instance_uuid]
    vm.committed(1, 1000.0, 2 * RPO, read_all=True)
    assert vm.expected == 0.0


def test_failures_back_off_up_to_half_of_the_rpo():
    one = book(WEB)
    now, delays = 1000.0, []
    for _ in range(9):
        assert one.step(now).start
        one.failed(now, WEB.instance_uuid, "nobody answers", "TARGET_UNAVAILABLE")
        vm = one.vms[WEB.instance_uuid]
        delays.append(vm.due - now)
        assert one.step(now).start == ()
        now = vm.due
    assert 30 <= delays[0] <= 60
    assert 60 <= delays[1] <= 120
    assert all(RPO / 4 <= delay <= RPO / 2 for delay in delays[6:])
    one.step(now)
    one.finished(now + 10, WEB.instance_uuid, 1, read_all=True)
    assert vm.failures == 0
    assert vm.error is None


def test_what_failed_of_something_that_works_again_is_tried_soon():
    one = book(WEB, DB)
    one.step(1000.0)
    for _ in range(6):
        one.vms[WEB.instance_uuid].failed(1000.0, "x", "TARGET_UNAVAILABLE", one.limits.pace)
        one.vms[DB.instance_uuid].failed(1000.0, "x", "PRECONDITION", one.limits.pace)
    one.recovered(1100.0, "TARGET_UNAVAILABLE")
    assert one.vms[WEB.instance_uuid].due <= 1100.0 + one.limits.pace.first
    assert one.vms[DB.instance_uuid].due > 1100.0 + one.limits.pace.first


def test_jitter_is_the_same_again_and_differs_between_vms():
    first, second = book(WEB, DB), book(WEB, DB)
    spread = {one.replica: one.spread for one in first.vms.values()}
    assert spread == {one.replica: one.spread for one in second.vms.values()}
    assert len(set(spread.values())) == 2


def test_the_miss_is_told_once_and_ends_with_a_point():
    one = book(WEB)
    one.step(1000.0)
    assert one.step(1000.0 + RPO).missed == ()
    miss = only(one.step(1001.0 + RPO).missed)
    assert (miss.cause, miss.name, miss.rpo) == ("slow-sync", "web01", RPO)
    assert miss.sentence == "its first sync has been running for 1h 1s, its RPO is 1h"
    assert one.step(1002.0 + RPO).missed == ()
    # This point is as old as the sync took: the RPO is still not kept.
    assert one.finished(1100.0 + RPO, WEB.instance_uuid, 1, read_all=True) is None
    one.step(1100.0 + RPO)
    assert one.finished(1110.0 + RPO, WEB.instance_uuid, 2, read_all=False) is miss
    assert one.vms[WEB.instance_uuid].missed_total == 1


def test_the_deadline_wakes_a_sleeper():
    one = book(WEB)
    one.step(1000.0)
    assert one.step(1000.0).wake == 1001.0 + RPO


def test_a_failing_vm_is_explained_by_its_failures():
    one = book(WEB)
    one.step(1000.0)
    one.failed(1010.0, WEB.instance_uuid, "the target does not answer", "TARGET_UNAVAILABLE")
    miss = only(one.step(1001.0 + RPO).missed)
    assert miss.cause == "failing"
    assert miss.sentence == "its first sync failed once, last because the target does not answer"


def test_waiting_is_explained_by_what_was_waited_for():
    one = book(WEB, DB, limits=Limits(per_host=1))
    running = only(one.step(1000.0).start).vm
    other = DB if running.name == "web01" else WEB
    assert [str(hold) for hold in one.held[other.instance_uuid]] == ["one of 1 places on host esx1"]
    misses = {miss.name: miss for miss in one.step(1001.0 + RPO).missed}
    assert misses[other.name].cause == "capacity"
    assert misses[other.name].sentence == "it has been waiting for one of 1 places on host esx1 for 1h 1s"
    assert misses[running.name].cause == "slow-sync"
    one.finished(1100.0 + RPO, running.replica, 1, read_all=True)
    late = only(one.step(1100.0 + RPO).start)
    assert late.vm.name == other.name
    assert late.waited == 100.0 + RPO


def test_of_two_late_vms_the_one_with_more_priority_goes_first():
    limits = Limits(syncs=1)
    one = Book(limits, started=0.0)
    one.refresh(0.0, [WEB], (Policy(rpo=RPO),), {})
    one.refresh(60.0, [WEB, DB], (Policy(rpo=RPO, vms=("db*",), priority=3), Policy(rpo=RPO)), {})
    assert only(one.step(100.0).start).vm.name == "web01"
    one.failed(100.0, WEB.instance_uuid, "x", "TARGET_UNAVAILABLE")
    late = 2 * RPO
    assert only(one.step(late).start).vm.name == "db01"


def test_what_an_earlier_agent_or_the_target_knows_is_not_done_again():
    known = {WEB.instance_uuid: Known(point=7, taken=900.0, compared=500.0, expected=30.0, missed_total=4)}
    one = book(WEB, known=known)
    vm = one.vms[WEB.instance_uuid]
    assert one.step(1000.0).start == ()
    assert (vm.point, vm.deadline, vm.stopped, vm.missed_total) == (7, 900.0 + RPO, 0.0, 4)


def test_a_point_that_grew_old_while_no_agent_ran_is_explained_so():
    known = {WEB.instance_uuid: Known(point=7, taken=1000.0 - 2 * RPO)}
    one = book(WEB, known=known)
    step = one.step(1000.0)
    assert only(step.start).vm.point == 7
    assert only(step.missed).cause == "agent-stopped"
    one.finished(1010.0, WEB.instance_uuid, 8, read_all=False)
    assert one.vms[WEB.instance_uuid].stopped == 0.0


def test_what_an_earlier_agent_left_open_goes_first():
    """Its snapshot stands: it is due at once, before others that are later than it."""
    known = {
        WEB.instance_uuid: Known(point=7, taken=1000.0, unfinished=True),
        DB.instance_uuid: Known(point=7, taken=1000.0 - 2 * RPO),
    }
    one = Book(Limits(syncs=1), started=1000.0)
    one.refresh(1000.0, [DB, WEB], (POLICY,), known)
    assert only(one.step(1000.0).start).vm.name == "web01"
    one.finished(1010.0, WEB.instance_uuid, 8, read_all=False, earlier=300.0)
    vm = one.vms[WEB.instance_uuid]
    assert (vm.taken, vm.unfinished) == (700.0, False)
    assert only(one.step(1010.0).start).vm.name == "db01"


def test_a_parked_sync_is_no_failure():
    one = book(WEB)
    one.step(1000.0)
    one.parked(WEB.instance_uuid)
    vm = one.vms[WEB.instance_uuid]
    assert (vm.failures, vm.error, one.running) == (0, None, {})


def test_a_point_that_the_target_tells_later():
    one = book(WEB)
    one.learn(WEB.instance_uuid, Known(point=7, taken=900.0), 1000.0)
    assert one.step(1000.0).start == ()
    one.learn(WEB.instance_uuid, Known(point=3, taken=100.0), 1000.0)
    assert one.vms[WEB.instance_uuid].point == 7
    one.learn(DB.instance_uuid, Known(point=3, taken=100.0), 1000.0)


def test_a_stricter_policy_is_explained_so():
    known = {WEB.instance_uuid: Known(point=7, taken=1000.0 - 0.2 * RPO)}
    one = book(WEB, known=known)
    assert one.step(1000.0).missed == ()
    one.refresh(1010.0, [WEB], (Policy(rpo=5 * MINUTE),), {})
    assert only(one.step(1010.0).missed).cause == "policy-changed"


def test_a_laxer_policy_ends_the_miss():
    known = {WEB.instance_uuid: Known(point=7, taken=1000.0 - 2 * RPO)}
    one = book(WEB, known=known)
    assert one.step(1000.0).missed
    one.refresh(1000.0, [WEB], (Policy(rpo=4 * RPO),), {})
    assert one.vms[WEB.instance_uuid].miss is None


def test_vms_come_move_and_go():
    one = book(WEB)
    one.step(1000.0)
    moved = dataclasses.replace(WEB, host="esx2", datastores=("ds9",), moref="vm-new", name="web-new")
    came, left = one.refresh(1010.0, [moved, DB], (POLICY,), {})
    assert ([vm.name for vm in came], left) == (["db01"], [])
    vm = one.vms[WEB.instance_uuid]
    assert (vm.host, vm.datastores, vm.moref, vm.name) == ("esx2", ("ds9",), "vm-new", "web-new")
    came, left = one.refresh(1020.0, [DB], (POLICY,), {})
    assert ([vm.name for vm in left], came) == (["web-new"], [])
    # Its sync goes on, and its end is no surprise.
    one.finished(1030.0, WEB.instance_uuid, 1, read_all=True)
    assert one.running == {}


def test_compares_come_when_they_are_due_and_not_before_there_is_a_point():
    policy = Policy(rpo=RPO, compare_every=24 * HOUR)
    one = book(WEB, policy=policy)
    assert not only(one.step(1000.0).start).compare
    one.finished(1010.0, WEB.instance_uuid, 1, read_all=True)
    vm = one.vms[WEB.instance_uuid]
    assert not vm.wants_compare(1000.0 + 17 * HOUR)
    assert vm.wants_compare(1000.0 + 24 * HOUR)
    vm.committed(2, 1000.0 + 24 * HOUR, 10.0, read_all=True)
    assert not vm.wants_compare(1000.0 + 25 * HOUR)


def test_nothing_starts_while_stopping():
    one = book(WEB)
    one.stopping = True
    assert one.step(1000.0).start == ()
    assert only(one.step(1001.0 + RPO).missed).cause == "stopping"


@pytest.mark.parametrize("limit", [{"syncs": 1}, {"per_host": 1}, {"per_datastore": 1}])
def test_each_bound_holds(limit):
    same = dataclasses.replace(DB, datastores=("ds1",))
    one = book(WEB, same, limits=Limits(**limit))
    assert len(one.step(1000.0).start) == 1
    assert len(one.held) == 1
    assert one.step(1000.0).start == ()


def test_a_limit_that_was_lowered_lets_what_runs_go_on():
    one = book(WEB, DB)
    assert len(one.step(1000.0).start) == 2
    one.limits = Limits(syncs=1)
    assert len(one.running) == 2
    one.failed(1001.0, WEB.instance_uuid, "x", "TARGET_UNAVAILABLE")
    assert one.step(2000.0).start == ()


def test_while_a_site_is_silent_nothing_starts_and_misses_say_so():
    one = book(WEB)
    one.silent = "target"
    assert one.step(1000.0).start == ()
    miss = only(one.step(1001.0 + RPO).missed)
    assert (miss.cause, miss.sentence) == ("site-down", "it has been waiting for the target to answer for 1h 1s")
    one.silent = None
    assert only(one.step(1002.0 + RPO).start).waited == 2.0 + RPO

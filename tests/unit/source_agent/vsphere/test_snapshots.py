import math

import pytest

from common.errors import NotFoundError, PreconditionError, QuiesceError, SourceError, SourceUnavailableError
from source_agent.vsphere.snapshots import (
    SETTLE_SECONDS,
    ensure_tracking,
    leftovers,
    marker,
    new_name,
    remove_leftovers,
    snapshot,
    untracked,
)
from tests.faults.vsphere import FaultyVSphere
from tests.unit.source_agent.vms import AGENT, DISK, OTHER_AGENT, disk, frozen, node, vm


def gone():
    return SourceUnavailableError("the vCenter is gone", subject="vcenter", next_step="wait")


def refused():
    return SourceError("the vCenter refuses", subject="vcenter", next_step="ask")


@pytest.fixture
def faulty(vsphere):
    return FaultyVSphere(vsphere)


@pytest.fixture
def web(vsphere):
    return ensure_tracking(vsphere, vsphere.vm("web01"))


def names(vsphere):
    return [one.name for one in vsphere.vm("web01").snapshots]


def test_it_is_there_in_the_block_and_gone_after_it(vsphere, web, clock):
    with snapshot(vsphere, web, AGENT, quiesce=False, clock=clock) as made:
        (found,) = vsphere.vm("web01").snapshots
        assert (found.moref, found.name) == (made.moref, made.name)
        assert leftovers(vsphere.vm("web01"), AGENT) == (found,)
        assert untracked(made) == ()
    assert names(vsphere) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_it_is_removed_however_the_block_ends(vsphere, web, clock, error):
    with pytest.raises(error) as caught, snapshot(vsphere, web, AGENT, quiesce=False, clock=clock):
        raise error
    assert names(vsphere) == []
    assert not hasattr(caught.value, "__notes__")


def test_a_removal_that_fails_is_raised_and_names_what_remains(faulty, vsphere, web, clock):
    faulty.fail("remove_snapshot", refused)
    with (
        pytest.raises(SourceError, match=r"may remain \(the vCenter refuses\)") as caught,
        snapshot(faulty, web, AGENT, quiesce=False, clock=clock),
    ):
        pass
    (name,) = names(vsphere)
    assert name in caught.value.message
    assert "run the agent again" in caught.value.next_step


def test_a_lost_vcenter_stays_retryable(faulty, web, clock):
    faulty.fail("remove_snapshot", gone)
    with pytest.raises(SourceUnavailableError), snapshot(faulty, web, AGENT, quiesce=False, clock=clock):
        pass


def test_a_removal_that_fails_does_not_hide_the_first_error(faulty, vsphere, web, clock):
    faulty.fail("remove_snapshot", gone)
    with (
        pytest.raises(ValueError, match="mine") as caught,
        snapshot(faulty, web, AGENT, quiesce=False, clock=clock),
    ):
        raise ValueError("mine")
    (name,) = names(vsphere)
    (note,) = caught.value.__notes__
    assert name in note
    assert "the vCenter is gone" in note


def test_a_creation_that_fails_leaves_nothing_and_does_not_wait(faulty, vsphere, web, clock):
    faulty.fail("create_snapshot", refused, after=True)
    before = clock.monotonic()
    with pytest.raises(SourceError, match="refuses"), snapshot(faulty, web, AGENT, quiesce=False, clock=clock):
        pytest.fail("the block must not run")
    assert names(vsphere) == []
    assert clock.monotonic() == before


def test_an_interrupted_creation_is_cleaned_up_after(faulty, vsphere, web, clock):
    faulty.fail("create_snapshot", KeyboardInterrupt, after=True)
    with pytest.raises(KeyboardInterrupt), snapshot(faulty, web, AGENT, quiesce=False, clock=clock):
        pytest.fail("the block must not run")
    assert names(vsphere) == []


def test_an_interrupted_creation_is_waited_for_a_little(faulty, web, clock):
    faulty.fail("create_snapshot", KeyboardInterrupt)
    before = clock.monotonic()
    with pytest.raises(KeyboardInterrupt), snapshot(faulty, web, AGENT, quiesce=False, clock=clock):
        pytest.fail("the block must not run")
    assert SETTLE_SECONDS <= clock.monotonic() - before < SETTLE_SECONDS + 1
    assert faulty.calls["vm"] > 10


def test_a_lost_vcenter_ends_the_wait_at_once(faulty, web, clock):
    faulty.fail("create_snapshot", KeyboardInterrupt)
    faulty.fail("vm", gone, count=math.inf)
    with pytest.raises(KeyboardInterrupt) as caught, snapshot(faulty, web, AGENT, quiesce=False, clock=clock):
        pytest.fail("the block must not run")
    assert faulty.calls["vm"] == 1
    assert "may remain" in caught.value.__notes__[0]


def test_leftovers_are_those_of_this_agent_children_first():
    mine = new_name(AGENT), f"{marker(AGENT)}; taken"
    machine = vm(
        snapshots=(
            node("before the upgrade", "snapshot-1"),
            node(mine[0], "snapshot-2", mine[1]),
            node(new_name(OTHER_AGENT), "snapshot-3", f"{marker(OTHER_AGENT)}; taken"),
            node(mine[0], "snapshot-4", "somebody's words"),
            node("renamed", "snapshot-5", mine[1]),
            node(new_name(AGENT), "snapshot-6", mine[1]),
        )
    )
    assert [one.moref for one in leftovers(machine, AGENT)] == ["snapshot-6", "snapshot-2"]
    assert [one.moref for one in leftovers(machine, OTHER_AGENT)] == ["snapshot-3"]


def test_leftovers_are_removed_and_foreign_ones_stay(vsphere, site, web):
    site.add_foreign_snapshot(web.moref, "before the upgrade")
    for _ in range(2):
        vsphere.create_snapshot(web.moref, new_name(AGENT), f"{marker(AGENT)}; taken", quiesce=False)
    removed = remove_leftovers(vsphere, vsphere.vm("web01"), AGENT)
    assert len(removed) == 2
    assert names(vsphere) == ["before the upgrade"]


def test_names_need_no_escaping_in_a_vcenter():
    name = new_name(AGENT)
    assert name.startswith(f"keysapart-{AGENT}-")
    assert not set(name + marker(AGENT)) & set("%/\\;")
    assert len({new_name(AGENT) for _ in range(100)}) == 100


def test_tracking_is_switched_on_once(faulty):
    machine = ensure_tracking(faulty, faulty.vm("web01"))
    assert machine.tracking_enabled
    assert faulty.vm("web01").tracking_enabled
    assert ensure_tracking(faulty, machine) is machine
    assert faulty.calls["enable_tracking"] == 1


def test_tracking_is_never_switched_on_over_snapshots(faulty, site):
    machine = faulty.vm("web01")
    site.add_foreign_snapshot(machine.moref, "before the upgrade")
    with pytest.raises(PreconditionError, match="before the upgrade") as caught:
        ensure_tracking(faulty, faulty.vm("web01"))
    assert "delete the VM's snapshots" in caught.value.next_step
    assert faulty.calls["enable_tracking"] == 0


def test_a_vm_without_support_is_refused(faulty):
    with pytest.raises(PreconditionError, match="does not support"):
        ensure_tracking(faulty, vm(tracking_enabled=False, tracking_supported=False))
    assert faulty.calls["enable_tracking"] == 0


def test_disks_without_a_change_id_are_named():
    assert untracked(frozen(DISK, disk(key=2001, change_id=None), disk(key=2002, change_id=""))) == (2001, 2002)


def test_a_missing_vm_is_the_callers_error(vsphere, clock):
    with pytest.raises(NotFoundError), snapshot(vsphere, vm(moref="vm-99"), AGENT, quiesce=False, clock=clock):
        pytest.fail("the block must not run")


# Quiescing.


@pytest.fixture
def machine(site, web):
    return site.machines[web.moref]


def test_a_guest_that_quiesces(faulty, web, clock):
    with snapshot(faulty, web, AGENT, quiesce=True, clock=clock) as made:
        assert made.consistency == "file-system"
    assert faulty.calls["create_snapshot"] == 1


def test_a_guest_that_quiesces_the_second_time(faulty, web, machine, clock):
    machine.quiesce_failures = 1
    with snapshot(faulty, web, AGENT, quiesce=True, clock=clock) as made:
        assert made.consistency == "file-system"
        assert len(faulty.vm("web01").snapshots) == 1
    assert faulty.calls["create_snapshot"] == 2


@pytest.mark.parametrize("fallback", [False, True])
def test_a_guest_that_does_not_quiesce(faulty, web, machine, clock, fallback):
    machine.quiesce_failures = 9
    if fallback:
        with snapshot(faulty, web, AGENT, quiesce=True, fallback=True, clock=clock) as made:
            assert made.consistency == "crash"
    else:
        with pytest.raises(QuiesceError), snapshot(faulty, web, AGENT, quiesce=True, clock=clock):
            pytest.fail("the block must not run")
    assert names(faulty) == []
    assert faulty.calls["create_snapshot"] == (3 if fallback else 2)


def test_other_failures_are_not_asked_again(faulty, web, clock):
    faulty.fail("create_snapshot", refused)
    with (
        pytest.raises(SourceError, match="refuses"),
        snapshot(faulty, web, AGENT, quiesce=True, fallback=True, clock=clock),
    ):
        pytest.fail("the block must not run")
    assert faulty.calls["create_snapshot"] == 1


def test_what_a_failed_quiesce_left_is_gone_before_the_next_is_made(faulty, vsphere, web, clock):
    def failed():
        return QuiesceError("the guest did not quiesce", subject="vm", next_step="look")

    faulty.fail("create_snapshot", failed, after=True)
    with snapshot(faulty, web, AGENT, quiesce=True, clock=clock):
        assert len(names(vsphere)) == 1
    assert names(vsphere) == []


def test_a_failed_quiesce_whose_rest_cannot_be_removed_ends_it(faulty, vsphere, web, clock):
    def failed():
        return QuiesceError("the guest did not quiesce", subject="vm", next_step="look")

    faulty.fail("create_snapshot", failed, after=True)
    faulty.fail("remove_snapshot", refused)
    with (
        pytest.raises(QuiesceError) as caught,
        snapshot(faulty, web, AGENT, quiesce=True, fallback=True, clock=clock),
    ):
        pytest.fail("the block must not run")
    assert "may remain" in caught.value.__notes__[0]
    assert len(names(vsphere)) == 1
    assert faulty.calls["create_snapshot"] == 1


# Consolidation.


def test_disks_that_need_consolidation_still_are_told(faulty, web, machine, clock):
    machine.consolidation_needed = True
    with (
        pytest.raises(SourceError, match="is removed, but the disks need consolidation still") as caught,
        snapshot(faulty, web, AGENT, quiesce=False, clock=clock),
    ):
        pass
    assert "consolidate its disks" in caught.value.next_step
    with (
        pytest.raises(ValueError, match="mine") as first,
        snapshot(faulty, web, AGENT, quiesce=False, clock=clock),
    ):
        raise ValueError("mine")
    assert "need consolidation still" in first.value.__notes__[0]

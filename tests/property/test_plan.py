"""A delta is planned only where every rule holds, whatever else is odd about VM, snapshot and point."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from common.ids import PointNumber
from source_agent.plan import Kind, forecast, plan
from source_agent.trust import HISTORY, HeldDisk, HeldPoint, run_of
from source_agent.vsphere.past import Past, Visit
from tests.unit.source_agent.vms import DISK, TAKEN, VM, frozen, node

uuids = st.sampled_from(["u-1", "u-2"])
paths = st.sampled_from(["[a] d.vmdk", "[b] d.vmdk"])
sizes = st.sampled_from([1 << 30, 2 << 30])
runs = st.sampled_from(["52 aa-bb", "53 aa-bb"])
change_ids = st.one_of(
    st.just(""), st.just("7"), st.builds(lambda run, number: f"{run}/{number}", runs, st.integers(1, 9))
)
keys = st.sampled_from([2000, 2001, 2002])

now_disks = st.lists(
    st.builds(
        lambda **changes: dataclasses.replace(DISK, **changes),
        key=keys,
        uuid=uuids,
        backing_path=paths,
        capacity_bytes=sizes,
        change_id=st.one_of(st.none(), change_ids),
    ),
    max_size=3,
    unique_by=lambda disk: disk.key,
).map(tuple)
held_disks = st.lists(
    st.builds(HeldDisk, key=keys, uuid=uuids, capacity_bytes=sizes, backing_path=paths, change_id=change_ids),
    max_size=3,
    unique_by=lambda disk: disk.key,
).map(tuple)
asked = st.sampled_from([None, Kind.FULL, Kind.COMPARE])
replicas = st.sampled_from([VM.instance_uuid, "00000000-0000-0000-0000-000000000000"])
times = st.sampled_from([TAKEN, TAKEN - HISTORY * 2])
points = st.one_of(st.none(), st.builds(HeldPoint, st.just(PointNumber(4)), replicas, held_disks, times))
machines = st.builds(
    lambda **changes: dataclasses.replace(VM, **changes),
    tracking_enabled=st.booleans(),
    snapshots=st.sampled_from([(), (node("x", "snapshot-9"),), (node("y", "snapshot-1"),)]),
    host_version=st.sampled_from(["8.0.3", "6.0.0", ""]),
    host_build=st.sampled_from([0, 1, 99999999]),
)


visits = st.builds(Visit, st.just("esx1"), st.sampled_from(["8.0.3", "6.0.0", ""]), st.just(1), st.booleans())
pasts = st.builds(Past, st.booleans(), st.one_of(st.none(), st.lists(visits, max_size=2).map(tuple)))


@given(machine=machines, disks=now_disks, held=points, requested=asked, past=pasts)
def test_a_delta_is_trusted_only_where_everything_agrees(machine, disks, held, requested, past):
    made = plan(machine, dataclasses.replace(frozen(), disks=disks), held, requested=requested, past=past)
    assert [one.key for one in made.disks] == [disk.key for disk in disks]
    before = {disk.key: disk for disk in held.disks} if held else {}
    for one, now in zip(made.disks, disks, strict=True):
        assert one.cause
        assert one.capacity_bytes == now.capacity_bytes
        assert (one.since is not None) == (one.kind is Kind.DELTA)
        if one.kind is Kind.FULL:
            assert held is None or requested is Kind.FULL or now.key not in before
            continue
        assert held is not None
        assert requested is not Kind.FULL
        if one.kind is not Kind.DELTA:
            continue
        assert requested is None
        assert not past.reverted
        assert past.visits is not None
        assert {visit.version for visit in past.visits} <= {"8.0.3"}
        assert held.taken == TAKEN
        old = before[now.key]
        assert one.since == old.change_id
        assert (old.uuid, old.capacity_bytes, old.backing_path) == (now.uuid, now.capacity_bytes, now.backing_path)
        assert run_of(old.change_id) == run_of(now.change_id) != ""
        assert held.replica == machine.instance_uuid
        assert machine.tracking_enabled
        assert machine.snapshots in ((), (node("x", "snapshot-9"),))
        assert (machine.host_version, machine.host_build) != ("6.0.0", 1)


@given(machine=machines, disks=now_disks, held=points, requested=asked)
def test_the_whole_is_the_most_careful_of_its_disks(machine, disks, held, requested):
    made = plan(machine, dataclasses.replace(frozen(), disks=disks), held, requested=requested)
    kinds = {one.kind for one in made.disks}
    assert (made.base is None) == (made.kind is Kind.FULL)
    if kinds <= {Kind.FULL}:
        assert made.kind is Kind.FULL
    else:
        assert made.kind is (Kind.COMPARE if Kind.COMPARE in kinds else Kind.DELTA)


@given(machine=machines, disks=now_disks, held=points, requested=asked, past=pasts)
def test_a_forecast_is_the_plan(machine, disks, held, requested, past):
    """With no snapshot of ours about, both see the same."""
    machine = dataclasses.replace(machine, snapshots=(), disks=disks)
    hoped = forecast(machine, held, TAKEN, requested=requested, past=past)
    assert hoped == plan(machine, dataclasses.replace(frozen(), disks=disks), held, requested=requested, past=past)

import dataclasses
from datetime import timedelta

import pytest

from common.errors import ConfigError
from common.ids import PointNumber
from source_agent.plan import Kind, forecast, plan, requested_kind
from source_agent.trust import HISTORY, RULES, HeldDisk, HeldPoint, bad_host, run_of
from source_agent.vsphere.past import Past, Visit
from tests.unit.source_agent.vms import DISK, GIB, RUN, TAKEN, VM, disk, frozen, node, vm

HELD_DISK = HeldDisk(DISK.key, DISK.uuid, DISK.capacity_bytes, DISK.backing_path, f"{RUN}/5")
BEFORE = TAKEN - timedelta(hours=1)
HELD = HeldPoint(PointNumber(4), VM.instance_uuid, (HELD_DISK,), BEFORE)


def held_disk(**changes):
    return dataclasses.replace(HELD, disks=(dataclasses.replace(HELD_DISK, **changes),))


def test_a_vm_without_a_point_is_sent_in_full():
    made = plan(VM, frozen(), None)
    assert (made.kind, made.base) == (Kind.FULL, None)
    assert [(one.kind, one.rule, one.since) for one in made.disks] == [(Kind.FULL, "first-point", None)]


def test_nothing_changed_is_a_delta_from_the_held_id():
    made = plan(VM, frozen(), HELD)
    assert (made.kind, made.base) == (Kind.DELTA, 4)
    assert [(one.kind, one.rule, one.since) for one in made.disks] == [(Kind.DELTA, "all-rules-hold", f"{RUN}/5")]
    assert made.disks[0].capacity_bytes == GIB


def test_a_full_that_was_asked_for_is_full():
    made = plan(VM, frozen(), HELD, requested=Kind.FULL)
    assert (made.kind, made.base, made.disks[0].rule) == (Kind.FULL, None, "requested")


def test_a_target_whose_data_key_was_rotated_gets_a_new_chain():
    rotated = dataclasses.replace(HELD, begins_chain=True)
    made = plan(VM, frozen(), rotated)
    assert (made.kind, made.base, made.disks[0].rule) == (Kind.FULL, None, "key-rotated")
    assert "data key was rotated" in made.disks[0].cause
    assert forecast(VM, rotated, TAKEN).kind is Kind.FULL


OTHER_RUN = "53" + RUN[2:]

# Everything as in the delta above, but for one thing: (VM, snapshot, held point), the rule that must decide, and what
# its sentence has to name.
BROKEN_RULES = [
    (
        "instance-uuid",
        VM,
        frozen(),
        dataclasses.replace(HELD, replica="00000000-0000-0000-0000-000000000000"),
        "instance UUID",
    ),
    ("imported-seed", VM, frozen(), held_disk(uuid="", backing_path="", change_id=""), "imported as a seed"),
    ("disk-uuid", VM, frozen(disk(uuid="6000c29e-ffff")), HELD, "another disk"),
    ("capacity", VM, frozen(disk(capacity_bytes=2 * GIB)), HELD, f"from {GIB} to {2 * GIB}"),
    ("capacity", VM, frozen(disk(capacity_bytes=GIB // 2)), HELD, f"from {GIB} to {GIB // 2}"),
    ("backing-path", VM, frozen(disk(backing_path="[other] web01/web01.vmdk")), HELD, "[other] web01/web01.vmdk"),
    ("foreign-snapshot", vm(snapshots=(node("before patch"),)), frozen(), HELD, "before patch"),
    (
        "history-too-short",
        VM,
        frozen(),
        dataclasses.replace(HELD, taken=TAKEN - HISTORY - timedelta(seconds=1)),
        "30 days",
    ),
    ("tracking-off", vm(tracking_enabled=False), frozen(), HELD, "off"),
    ("held-change-id", VM, frozen(), held_disk(change_id=""), "no change id"),
    ("held-change-id", VM, frozen(), held_disk(change_id="7"), "no change id"),
    ("own-change-id", VM, frozen(disk(change_id=None)), HELD, "not being tracked"),
    ("tracking-reset", VM, frozen(disk(change_id=f"{OTHER_RUN}/9")), HELD, "reset"),
    ("tracking-reset", VM, frozen(), held_disk(change_id=f"{OTHER_RUN}/5"), "reset"),
    ("known-bad-host", vm(host_version="6.0.0", host_build=2494585), frozen(), HELD, "6.0.0"),
]


@pytest.mark.parametrize(("rule", "machine", "snapshot", "held", "words"), BROKEN_RULES)
def test_one_broken_rule_makes_the_disk_a_compare(rule, machine, snapshot, held, words):
    made = plan(machine, snapshot, held)
    assert (made.kind, made.base) == (Kind.COMPARE, 4)
    (decided,) = made.disks
    assert (decided.kind, decided.rule, decided.since) == (Kind.COMPARE, rule, None)
    assert words in decided.cause


def test_every_rule_has_a_case():
    assert {name for name, _ in RULES} == {case[0] for case in BROKEN_RULES} | {"reverted", "visited-bad-host"}


def test_a_revert_since_the_point_makes_every_disk_a_compare():
    assert [one.rule for one in plan(VM, frozen(), HELD, past=Past(reverted=True)).disks] == ["reverted"]
    assert [one.rule for one in forecast(VM, HELD, TAKEN, past=Past(reverted=True)).disks] == ["reverted"]


@pytest.mark.parametrize(
    ("visits", "words"),
    [
        ((Visit("esx1", "8.0.3", 24022510), Visit("esx2", "6.0.0", 2494585)), "on esx2, and ESXi 6.0.0 build 2494585"),
        ((Visit("esx2", "", 0),), "on esx2, which is gone or hides its release"),
        ((Visit("esx2", "6.7.0", 8169922, restarted=True),), "on esx2, which was started anew"),
        (None, "changed hosts more often"),
    ],
)
def test_a_host_visited_since_the_point_that_may_leave_changes_out_makes_every_disk_a_compare(visits, words):
    for made in (
        plan(VM, frozen(), HELD, past=Past(visits=visits)),
        forecast(VM, HELD, TAKEN, past=Past(visits=visits)),
    ):
        assert [one.rule for one in made.disks] == ["visited-bad-host"]
        assert words in made.disks[0].cause


@pytest.mark.parametrize(
    "visit",
    [
        Visit("esx2", "8.0.3", 24022510),
        Visit("esx2", "6.7.0", 8169922),
        Visit("esx2", "7.0.3", 20036589, restarted=True),
    ],
)
def test_hosts_that_are_no_reason(visit):
    assert plan(VM, frozen(), HELD, past=Past(visits=(visit,))).kind is Kind.DELTA


def test_change_ids_of_a_host_that_leaves_changes_out_are_not_kept():
    bad = vm(host_version="6.0.0", host_build=2494585)
    for held, requested in ((None, None), (HELD, None), (HELD, Kind.FULL), (HELD, Kind.COMPARE)):
        assert not plan(bad, frozen(), held, requested=requested).keeps_change_ids
        assert plan(VM, frozen(), held, requested=requested).keeps_change_ids


def test_our_own_snapshot_is_not_foreign():
    ours = node("keysapart-test", moref="snapshot-9")
    assert plan(vm(snapshots=(ours,)), frozen(), HELD).kind is Kind.DELTA


def test_a_new_disk_alone_is_full_and_the_rest_stays_delta():
    second = disk(key=2001, uuid="6000c29e-2", backing_path="[store] web01/web01_1.vmdk")
    made = plan(VM, frozen(DISK, second), HELD)
    assert (made.kind, made.base) == (Kind.DELTA, 4)
    assert [(one.key, one.kind, one.rule) for one in made.disks] == [
        (2000, Kind.DELTA, "all-rules-hold"),
        (2001, Kind.FULL, "new-disk"),
    ]


def test_one_compare_makes_the_sync_a_compare():
    second = disk(key=2001, uuid="6000c29e-2", change_id=None)
    held = dataclasses.replace(HELD, disks=(HELD_DISK, dataclasses.replace(HELD_DISK, key=2001, uuid="6000c29e-2")))
    made = plan(VM, frozen(DISK, second), held)
    assert made.kind is Kind.COMPARE
    assert [one.kind for one in made.disks] == [Kind.DELTA, Kind.COMPARE]


def test_all_disks_replaced_builds_on_nothing():
    made = plan(VM, frozen(disk(key=2005)), HELD)
    assert (made.kind, made.base) == (Kind.FULL, None)


def test_a_disk_that_is_gone_is_not_planned():
    held = dataclasses.replace(HELD, disks=(HELD_DISK, dataclasses.replace(HELD_DISK, key=2001)))
    made = plan(VM, frozen(), held)
    assert [one.key for one in made.disks] == [2000]


def test_a_forecast_goes_by_what_the_running_vm_shows():
    assert forecast(VM, HELD, TAKEN).kind is Kind.DELTA
    assert forecast(VM, None, TAKEN).kind is Kind.FULL
    assert forecast(VM, HELD, TAKEN, requested=Kind.FULL).kind is Kind.FULL
    assert forecast(vm(disks=(disk(change_id=None),)), HELD, TAKEN).disks[0].rule == "own-change-id"


def test_a_forecast_counts_every_snapshot_as_foreign():
    made = forecast(vm(snapshots=(node("mine"),)), HELD, TAKEN)
    assert made.disks[0].rule == "foreign-snapshot"


def test_a_forecast_looks_through_snapshots_that_a_sync_removes_first():
    live = vm(snapshots=(node("ours"),), disks=(disk(backing_path="[store] web01/web01-000001.vmdk"),))
    assert forecast(live, HELD, TAKEN, own_snapshots=frozenset({"snapshot-1"})).kind is Kind.DELTA
    both = vm(snapshots=(node("ours"), node("mine", "snapshot-2")), disks=live.disks)
    assert forecast(both, HELD, TAKEN, own_snapshots=frozenset({"snapshot-1"})).kind is Kind.COMPARE


def test_a_forecast_sees_a_reset_where_the_live_vm_shows_it():
    made = forecast(vm(disks=(disk(change_id=f"{OTHER_RUN}/1"),)), HELD, TAKEN)
    assert made.disks[0].rule == "tracking-reset"


@pytest.mark.parametrize(
    ("version", "build", "bad"),
    [
        ("4.1.0", 1, True),
        ("3.5.0", 1, True),
        ("5.0.0", 1, True),
        ("5.1.0", 1, True),
        ("5.5.0", 1, False),
        ("6.0.0", 3247719, True),
        ("6.0.0", 3247720, False),
        ("6.0.0", 0, False),
        ("6.5.0", 1, False),
        ("8.0.3", 24022510, False),
        ("", 0, False),
    ],
)
def test_hosts_known_to_leave_changes_out(version, build, bad):
    assert bad_host(version, build) is bad


def test_the_run_is_what_stands_before_the_last_slash():
    assert run_of(f"{RUN}/12") == RUN
    assert run_of("a/b/3") == "a/b"
    assert run_of("nonsense") == ""


def test_a_compare_may_be_asked_for_and_leaves_new_disks_full():
    made = plan(VM, frozen(DISK, disk(key=2001, change_id=None)), HELD, requested=Kind.COMPARE)
    assert [(one.kind, one.rule) for one in made.disks] == [(Kind.COMPARE, "requested"), (Kind.FULL, "new-disk")]
    assert (made.kind, made.base) == (Kind.COMPARE, HELD.number)


def test_full_and_compare_cannot_both_be_asked_for():
    assert requested_kind(full=True, compare=False) is Kind.FULL
    assert requested_kind(full=False, compare=True) is Kind.COMPARE
    assert requested_kind(full=False, compare=False) is None
    with pytest.raises(ConfigError, match="exclude each other"):
        requested_kind(full=True, compare=True)

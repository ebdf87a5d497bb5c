from datetime import UTC, datetime, timedelta

import pytest

from common.errors import KeyNotUsableError
from source_agent.doctor import judge
from source_agent.doctor.report import Found, failure, report
from source_agent.lock import held, unfinished, vm_lock
from source_agent.preflight import Finding, Severity
from source_agent.vsphere.snapshots import marker, new_name
from tests.unit.source_agent.vms import AGENT, OTHER_AGENT, VM, disk, node, vm

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
OTHER = vm(moref="vm-1", name="agent-vm", instance_uuid="99999999-0042-5a10-8030-b4c04f564d31", disks=())


def finding(severity, rule="rule", remedy="mend it", sentence="it is broken"):
    return Finding(severity, rule, sentence, remedy)


@pytest.mark.parametrize(
    ("days", "checked", "severity", "word"),
    [
        (31, True, Severity.NOTE, "lasts until 2026-12-25"),
        (29, True, Severity.WARN, "in 29 days"),
        (0, True, Severity.REFUSE, "expired on 2026-11-24"),
        (-5, False, Severity.WARN, "expired on 2026-11-19"),
    ],
)
def test_certificates_are_told_of_in_time(days, checked, severity, word):
    (found,) = judge.certificate("the agent's", NOW + timedelta(days=days), NOW, "renew it", checked=checked)
    assert (found.finding.severity, found.where) == (severity, "agent")
    assert word in found.finding.sentence


@pytest.mark.parametrize(("seconds", "word"), [(61, "61 s ahead of"), (-90, "90 s behind"), (60, None), (-60, None)])
def test_clocks_that_are_apart(seconds, word):
    found = list(judge.clock("vCenter", NOW + timedelta(seconds=seconds), NOW))
    assert [word in one.finding.sentence for one in found] == ([True] if word else [])


def test_leftover_snapshots_of_this_agent_alone():
    mine = node(new_name(AGENT), "snapshot-1", f"{marker(AGENT)}; taken")
    other = node(new_name(OTHER_AGENT), "snapshot-2", f"{marker(OTHER_AGENT)}; taken")
    left = vm(snapshots=(mine, other, node("before the upgrade", "snapshot-3")))
    (found,) = judge.left_behind([left], AGENT, busy=())
    assert mine.name in found.finding.sentence
    assert list(judge.left_behind([left], AGENT, busy=[left.instance_uuid])) == []


def test_disks_that_are_attached_elsewhere():
    holder = vm(moref=OTHER.moref, name=OTHER.name, instance_uuid=OTHER.instance_uuid, disks=(disk(independent=True),))
    (found,) = judge.left_behind([VM, holder], AGENT, busy=())
    assert (found.finding.rule, found.where) == ("attached-disk", "web01")
    assert "agent-vm" in found.finding.sentence
    assert list(judge.left_behind([VM, holder], AGENT, busy=[VM.instance_uuid])) == []
    assert list(judge.left_behind([VM, OTHER], AGENT, busy=())) == []


def test_the_same_finding_at_many_vms_is_one_row_and_the_worst_comes_first():
    made = report(
        [
            Found(finding(Severity.NOTE, "vsan"), "a"),
            Found(finding(Severity.WARN, "vtpm"), "a"),
            *(Found(finding(Severity.REFUSE, "privilege", sentence=f"no for {name}"), name) for name in "abcde"),
            Found(finding(Severity.REFUSE, "template"), "f"),
        ],
        vms=6,
    )
    assert [(row.severity.value, row.rule, len(row.where)) for row in made.rows] == [
        ("refuse", "privilege", 5),
        ("refuse", "template", 1),
        ("warn", "vtpm", 1),
        ("note", "vsan", 1),
    ]
    assert not made.ready
    shown = "\n".join(made.lines())
    assert "a, b, c and 2 more" in shown
    assert "no for a (and 4 more such)" in shown
    assert made.as_json()["findings"][0]["sentences"] == [f"no for {name}" for name in "abcde"]


def test_warnings_and_notes_block_nothing():
    made = report([Found(finding(Severity.WARN)), Found(finding(Severity.NOTE))], vms=1)
    assert made.ready
    assert made.lines()[-1] == "1 VM looked at, nothing blocks"
    assert report([], vms=0).lines() == ["0 VMs looked at, nothing blocks"]


def test_a_check_that_fails_is_a_finding():
    error = KeyNotUsableError("the KEK is Deactivated", subject="key", next_step="activate it")
    assert failure(error, "target").finding == Finding(
        Severity.REFUSE, "key-not-usable", "the KEK is Deactivated", "activate it"
    )


def test_looking_whether_a_vm_is_held_changes_nothing(tmp_path):
    with vm_lock(tmp_path, VM.instance_uuid, VM.name):
        assert held(tmp_path) == [VM.instance_uuid]
        assert unfinished(tmp_path) == [VM.instance_uuid]
    assert held(tmp_path) == []
    (tmp_path / f"vm-{VM.instance_uuid}.lock").write_text("4711\n")
    assert held(tmp_path) == []
    assert unfinished(tmp_path) == [VM.instance_uuid]
    (tmp_path / "vm-rubbish.lock").write_text("")
    assert held(tmp_path) == []

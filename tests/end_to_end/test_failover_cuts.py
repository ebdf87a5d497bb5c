"""A failover that is cut off: it goes on, or is cleaned up."""

import fcntl
import functools
from pathlib import Path
from typing import Any

import pytest

from target_appliance.native import command
from target_appliance.native.failover import STEPS
from tests.end_to_end.failing_over import Both, both, killed, world
from tests.lab.vim import connected, disks, wait

__all__ = ["both", "world"]
pytestmark = pytest.mark.lab

CUTS = [(step, 1) for step in STEPS if step not in {"stop", "delete"}]
CUTS += [(f"after {step}", 1) for step, _ in CUTS if step != "write"]
CUTS += [("add-disk", 2), ("attach", 2), ("write", 2), ("write", 4), ("detach", 2), ("written", 2)]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"method": "CreateVM_Task", "fault": "NoDiskSpace"}, "creating VM web01 failed"),
        ({"method": "ReconfigVM_Task", "fault": "NoDiskSpace"}, "adding disk 2000"),
        ({"method": "CreateVM_Task", "fault": "drop"}, "creating VM web01 failed"),
        ({"method": "ReconfigVM_Task", "fault": "drop", "skip": 2}, "attaching"),
        ({"method": "PowerOnVM_Task", "fault": "EncryptionKeyRequired"}, "starting"),
        ({"method": "PowerOnVM_Task", "fault": "drop"}, "starting"),
    ],
)
def test_a_call_that_fails_is_told_and_the_next_run_goes_on(both: Both, fault: dict[str, Any], words: str):
    both.site.order("fault", count=1, **fault)

    assert words in both.refused()["message"]

    both.done()
    assert both.equal("web01")
    assert (len(both.vms()), both.site.attached()) == (1, [])


@pytest.mark.parametrize(
    ("method", "skip"), [("CreateVM_Task", 0), *(("ReconfigVM_Task", skip) for skip in range(6)), ("PowerOnVM_Task", 0)]
)
def test_an_answer_that_is_lost_repeats_nothing(both: Both, method: str, skip: int):
    both.site.order("fault", method=method, fault="drop-after", count=1, skip=skip)

    both.done()

    assert both.equal("web01")
    assert (len(both.vms()), both.site.attached()) == (1, [])


@pytest.mark.parametrize(("step", "number"), CUTS)
def test_killed_at_a_step_it_goes_on(both: Both, step: str, number: int):
    killed(both, step, number, "failover", "web01")
    complete = [key for key, vm in both.vms().items() if vm["power"] == "poweredOn"]

    report = both.done()

    assert both.equal("web01")
    assert both.site.attached() == []
    ((name, vm),) = both.vms().items()
    assert (name, vm["power"]) == ("web01", "poweredOn")
    if complete or step in {"start", "after start"} or (step, number) == ("after written", 2):
        assert report["written_bytes"] == 0


@pytest.mark.parametrize(("step", "number"), [("after create", 1), ("write", 2), ("after written", 1)])
def test_killed_at_a_step_it_is_cleaned_up(both: Both, step: str, number: int):
    killed(both, step, number, "failover", "web01")

    assert both.done("--clean-up") == {"removed": True}

    assert (both.vms(), both.site.attached()) == ({}, [])


def test_a_complete_disk_is_not_written_again(both: Both):
    killed(both, "attach", 2, "failover", "web01")
    (vm,) = both.vms().values()
    first = both.site.file("web01", int(min(vm["disks"])))
    before = first.stat().st_mtime_ns

    both.done()

    assert first.stat().st_mtime_ns == before
    assert both.equal("web01")


def test_a_vm_that_was_deleted_at_the_vcenter_is_forgotten(both: Both):
    first, second = both.done(), both.done("--force")
    with connected(both.site) as session:
        for name in (second["vm"], first["vm"]):
            assert "web01" in both.refused()["message"]
            vm = session.vm(name)
            wait(vm.PowerOffVM_Task())
            wait(vm.Destroy_Task())
            assert both.done("--clean-up") == {"removed": False}

    both.done()

    assert list(both.vms()) == ["web01"]


def test_a_test_that_fails_leaves_nothing(both: Both):
    both.site.order("fault", method="PowerOnVM_Task", fault="EncryptionKeyRequired", count=1)

    assert "starting" in both.refused("--test")["message"]

    assert (both.vms(), both.site.attached()) == ({}, [])


@pytest.mark.parametrize(("step", "number"), [("stop", 1), ("after stop", 1), ("delete", 1), ("after delete", 1)])
def test_a_test_killed_while_it_is_removed(both: Both, step: str, number: int):
    killed(both, step, number, "failover", "web01", "--test")

    both.done("--clean-up", "--test")

    assert (both.vms(), both.site.attached()) == ({}, [])


def test_a_disk_that_was_complete_and_is_gone_is_written_anew(both: Both):
    killed(both, "start", 1, "failover", "web01")
    with connected(both.site) as session:
        vm = session.vm("web01")
        session.detach(vm, disks(vm)[0], "destroy")

    assert both.done()["written_bytes"] > 0

    assert both.equal("web01")


def test_a_vm_that_was_deleted_before_it_was_complete_is_made_and_written_anew(both: Both):
    killed(both, "start", 1, "failover", "web01")
    with connected(both.site) as session:
        wait(session.vm("web01").Destroy_Task())

    both.done()

    assert both.equal("web01")


def test_while_a_disk_comes_to_the_appliances_vm_no_other_does(both: Both, monkeypatch: pytest.MonkeyPatch):
    lock = both.pair.folder / "appliance-state" / "failovers" / "attaching.lock"
    seen: dict[str, bool] = {}

    def failpoint(step: str) -> None:
        if step in {"attach", "after attach", "write"}:
            seen[step] = locked(lock)

    monkeypatch.setattr(command, "Command", functools.partial(command.Command, failpoint=failpoint))
    both.done()

    assert seen == {"attach": True, "after attach": True, "write": False}


def locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False

"""What a failover refuses, and leaves alone."""

import pytest
from pyVmomi import vim as vmodl

from target_appliance.native.blueprint import MARKER
from tests.end_to_end.failing_over import Both, both, killed, world
from tests.end_to_end.pair import TENANT
from tests.lab.target_site import APPLIANCE_VM, NETWORK, STANDARD_PROVIDER
from tests.lab.vim import connected, disks, wait

__all__ = ["both", "world"]
pytestmark = pytest.mark.lab


def test_the_plan_changes_nothing(both: Both):
    (note,) = both.done("--plan")["findings"]
    assert (note["subject"], note["blocks"]) == ("tpm", False)
    assert both.vms() == {}

    for order, arguments, words in (
        ("provider", {"name": STANDARD_PROVIDER, "on": False}, "not active"),
        ("provider", {"name": STANDARD_PROVIDER, "kind": "unknown"}, "not known"),
        ("host-crypto", {"name": "incapable"}, "no host can take encrypted VMs"),
        ("host-crypto", {"name": "prepared"}, "its mode will be switched on"),
        ("space", {"bytes": 1 << 20}, "bytes free"),
        ("deny", {"privilege": "Cryptographer.EncryptNew"}, "lacks Cryptographer.EncryptNew on the folder"),
        ("deny", {"privilege": "VirtualMachine.Config.AddExistingDisk"}, "on the appliance's VM"),
    ):
        both.site.order(order, **arguments)
        outcome = both.failover("--plan")
        (found,) = [one for one in outcome.json["findings"] if one["subject"] != "tpm"]
        assert words in found["what"]
        assert outcome.code == (3 if found["blocks"] else 0)
        if found["blocks"]:
            assert words in both.refused()["message"]
        both.site.heal()
    assert both.vms() == {}


@pytest.mark.parametrize("what", ["vm", "disk"])
@pytest.mark.parametrize("how", ["unset", "foreign-provider", "foreign-key"])
def test_nothing_is_written_where_it_would_lie_in_the_clear_or_under_a_foreign_key(both: Both, what: str, how: str):
    both.site.order("misdeed", what=what, how=how)
    started = both.site.order("calls").get("PowerOnVM_Task", 0)

    error = both.refused()

    assert error["fault"] == "target"
    assert "so nothing more is written to it" in error["message"]
    assert both.written() == 0
    assert both.site.order("calls").get("PowerOnVM_Task", 0) == started
    assert {vm["power"] for vm in both.vms().values()} == {"poweredOff"}
    both.site.heal()
    assert both.refused()["message"] == error["message"]
    assert both.done("--clean-up") == {"removed": True}
    assert both.vms() == {}
    both.done()
    assert both.equal("web01")


def test_a_network_or_a_place_that_is_not_there(both: Both):
    text = both.pair.config.read_text()
    try:
        for old, new, words in (
            (f'network = "{NETWORK}"', 'network = "nowhere"', "network nowhere is not at the vCenter"),
            ('datastore = "LocalDS_0"', 'datastore = "gone"', "datastore gone is not at the vCenter"),
            (f'key_provider = "{STANDARD_PROVIDER}"', 'key_provider = "other"', "key provider other is not at"),
        ):
            both.pair.config.write_text(text.replace(old, new))
            assert words in both.refused()["message"]
    finally:
        both.pair.config.write_text(text)
    assert both.vms() == {}


def test_there_are_never_two_unless_they_are_asked_for(both: Both):
    both.done()

    assert both.refused()["reason"] == "ALREADY_EXISTS"
    assert both.refused("--plan")["reason"] == "ALREADY_EXISTS"
    assert "is complete" in both.refused("--clean-up")["message"]
    assert list(both.vms()) == ["web01"]
    second = both.done("--force")
    assert sorted(both.vms()) == ["web01", second["vm"]]
    assert both.equal(second["vm"])
    assert both.refused()["reason"] == "ALREADY_EXISTS"


def test_another_vm_of_that_name_is_left_alone(both: Both):
    both.done()
    for file in (both.pair.folder / "appliance-state" / "failovers" / TENANT).glob("*.json"):
        file.unlink()

    assert "a VM web01 is there already" in both.refused()["message"]
    assert both.done("--clean-up", "--test") == {"removed": False}
    assert list(both.vms()) == ["web01"]


def test_a_clone_is_not_taken_for_ours(both: Both):
    killed(both, "start", 1, "failover", "web01")
    with connected(both.site) as session:
        ours = next(one for one in session.vm("web01").config.extraConfig if one.key == MARKER)
        clone = session.vm(APPLIANCE_VM)
        session.reconfigure(clone, extraConfig=[vmodl.option.OptionValue(key=MARKER, value=ours.value)])
        for words in ((), ("--clean-up",)):
            assert "appliance-vm and web01 all bear the mark" in both.refused(*words)["message"]
        session.reconfigure(clone, extraConfig=[vmodl.option.OptionValue(key=MARKER, value="")])

    both.done()


def test_a_clone_that_outlives_ours_is_neither_filled_nor_deleted(both: Both):
    killed(both, "write", 1, "failover", "web01")
    with connected(both.site) as session:
        ours = next(one for one in session.vm("web01").config.extraConfig if one.key == MARKER)
        for one in both.site.attached():
            appliance = session.vm(APPLIANCE_VM)
            session.detach(appliance, next(d for d in appliance.config.hardware.device if d.key == one["key"]))
        wait(session.vm("web01").Destroy_Task())
        clone = session.vm(APPLIANCE_VM)
        session.reconfigure(clone, extraConfig=[vmodl.option.OptionValue(key=MARKER, value=ours.value)])
        for words in ((), ("--clean-up",)):
            assert "appliance-vm bears the mark of this failover, but is not" in both.refused(*words)["message"]
        session.reconfigure(clone, extraConfig=[vmodl.option.OptionValue(key=MARKER, value="")])

    both.done()
    assert both.equal("web01")


def test_what_may_have_been_started_by_hand_is_not_cleaned_up(both: Both):
    killed(both, "start", 1, "failover", "web01")
    with connected(both.site) as session:
        wait(session.vm("web01").PowerOnVM_Task())
        wait(session.vm("web01").PowerOffVM_Task())

    assert "is complete" in both.refused("--clean-up")["message"]
    assert both.equal("web01")


def test_a_disk_that_somebody_attached_is_not_deleted_with_a_test(both: Both):
    both.done()
    name = both.done("--test", "--keep")["vm"]
    with connected(both.site) as session:
        wait(session.vm("web01").PowerOffVM_Task())
        theirs = disks(session.vm("web01"))[0]
        added = session.attach(session.vm(name), theirs, 0, 15, "persistent")

        assert theirs.backing.fileName in both.refused("--test", "--clean-up")["message"]

        assert sorted(both.vms()) == ["web01", name]
        session.detach(session.vm(name), added)
    assert both.done("--test", "--clean-up") == {"removed": True}
    assert both.equal("web01")


def test_ours_may_be_renamed_and_its_name_taken(both: Both):
    killed(both, "start", 1, "failover", "web01")
    text = both.pair.config.read_text()
    with connected(both.site) as session:
        wait(session.vm("web01").Rename_Task("renamed"))
        wait(session.vm(APPLIANCE_VM).Rename_Task("web01"))
        both.pair.config.write_text(text.replace(f'"{APPLIANCE_VM}"', '"web01"'))
        try:
            assert [one["subject"] for one in both.done("--plan")["findings"]] == ["tpm"]
        finally:
            both.pair.config.write_text(text)
            wait(session.vm("web01").Rename_Task(APPLIANCE_VM))


def test_what_made_nothing_holds_nobody_to_its_point(both: Both):
    both.site.order("space", bytes=0)
    both.refused("--point", 1)

    assert both.done("--clean-up") == {"removed": False}
    assert both.refused("--point", 9)["reason"] == "NOT_FOUND"

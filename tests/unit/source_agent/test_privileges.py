import pytest

from source_agent.privileges import HOTADD, NEEDS, TRANSPORTS, VDDK_HOTADD, VDDK_NBDSSL, grouped, needs, role, wanted
from source_agent.vsphere.port import Lacking, Place


def ids(needed):
    return {one.privilege for one in needed}


def test_what_is_for_encrypted_vms_is_not_asked_for_others():
    assert ids(needs(HOTADD, encrypted=True)) - ids(needs(HOTADD, encrypted=False)) == {
        "Cryptographer.Access",
        "Cryptographer.AddDisk",
    }
    assert "Cryptographer.AddDisk" not in ids(needs(VDDK_NBDSSL, encrypted=True))


def test_transports_differ_in_what_they_attach_and_what_vddk_wants():
    attaching, vddk = "VirtualMachine.Config.AddExistingDisk", "VirtualMachine.Config.DiskLease"
    assert [attaching in ids(role(transport)) for transport in TRANSPORTS] == [True, False, True]
    assert [vddk in ids(role(transport)) for transport in TRANSPORTS] == [False, True, True]
    assert ids(role(VDDK_HOTADD)) == ids(role(HOTADD)) | ids(role(VDDK_NBDSSL))


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_no_agent_may_write_to_the_vms_it_reads(transport):
    dangerous = ("DiskRandomAccess", "PutVmFiles", "Decrypt", "Interact.", "Inventory.", "FileManagement", "Delete")
    assert [one for one in ids(role(transport)) for word in dangerous if word in one] == []


def test_the_table_says_everything_once():
    assert len({(one.privilege, one.place) for one in NEEDS}) == len(NEEDS)
    assert {one.place for one in NEEDS} == set(Place)


def test_privileges_by_the_object_they_are_needed_on():
    found = wanted(needs(HOTADD, encrypted=False))
    assert found[Place.DATASTORE] == {"Datastore.Browse", "Datastore.AllocateSpace"}
    assert Place.ROOT not in found


def test_what_lacks_is_told_by_purpose_and_object():
    needed = needs(HOTADD, encrypted=True)
    lacking = (
        Lacking("Datastore.AllocateSpace", Place.DATASTORE, "datastore one"),
        Lacking("Datastore.AllocateSpace", Place.DATASTORE, "datastore two"),
        Lacking("VirtualMachine.Config.RemoveDisk", Place.AGENT_VM, "VM agent-vm"),
        Lacking("VirtualMachine.State.CreateSnapshot", Place.VM, "VM web01"),
        Lacking("VirtualMachine.State.RemoveSnapshot", Place.VM, "VM web01"),
    )
    snapshots, attaching = grouped(needed, lacking)
    assert snapshots.purpose == "take and remove snapshots"
    assert snapshots.words == ("VirtualMachine.State.CreateSnapshot, VirtualMachine.State.RemoveSnapshot on VM web01")
    assert attaching.words == (
        "VirtualMachine.Config.RemoveDisk on VM agent-vm; Datastore.AllocateSpace on datastore one; "
        "Datastore.AllocateSpace on datastore two"
    )
    assert grouped(needed, ()) == ()

import pytest
from pyVmomi import vim

from common.errors import PreconditionError
from common.vsphere.attach import (
    NON_PERSISTENT,
    PERSISTENT,
    DiskFile,
    Slot,
    attaching,
    detaching,
    free_slot,
    hot_added,
)

DEVICE = vim.vm.device
DISK = DiskFile("[store] w/w.vmdk", 1 << 20, "Hard disk 1")


def controller(bus=0, kind=DEVICE.VirtualLsiLogicController, sharing="noSharing"):
    return kind(key=1000 + bus, busNumber=bus, sharedBus=sharing)


def virtual(unit, bus=0, key=None, **backing):
    values = {"fileName": "[store] agent/agent.vmdk", "diskMode": "persistent", **backing}
    return DEVICE.VirtualDisk(
        key=key if key is not None else 2000 + 100 * bus + unit,
        controllerKey=1000 + bus,
        unitNumber=unit,
        backing=DEVICE.VirtualDisk.FlatVer2BackingInfo(**values),
    )


def filled(bus, units=16):
    return [virtual(unit, bus) for unit in range(units) if unit != 7]


def test_the_first_free_unit():
    assert free_slot([controller(), virtual(0), virtual(2)], "VM a") == Slot(0, 1, 1000)


def test_unit_7_is_the_controllers_own():
    assert free_slot([controller(), *(virtual(unit) for unit in range(7))], "VM a") == Slot(0, 8, 1000)


def test_the_next_controller_when_one_is_full():
    assert free_slot([controller(1), controller(0), *filled(0)], "VM a") == Slot(1, 0, 1001)


def test_a_controller_is_added_when_all_are_full():
    assert free_slot([controller(0), *filled(0)], "VM a") == Slot(1, 0, None)
    assert free_slot([controller(1), *filled(1)], "VM a") == Slot(0, 0, None)
    assert free_slot([], "VM a") == Slot(0, 0, None)


def test_a_shared_bus_is_never_used():
    assert free_slot([controller(0, sharing="virtualSharing")], "VM a") == Slot(1, 0, None)


def test_a_full_vm_is_refused():
    devices = [device for bus in range(4) for device in (controller(bus), *filled(bus))]
    with pytest.raises(PreconditionError, match="no free SCSI address"):
        free_slot(devices, "VM a")


@pytest.mark.parametrize("mode", [NON_PERSISTENT, PERSISTENT])
def test_attaching_an_existing_file_makes_no_file(mode):
    (change,) = attaching(DISK, Slot(0, 3, 1000), mode)
    assert (change.operation, change.fileOperation) == ("add", None)
    assert (change.device.controllerKey, change.device.unitNumber) == (1000, 3)
    assert change.device.backing.fileName == DISK.path
    assert change.device.backing.diskMode == mode


def test_attaching_with_a_new_controller():
    adapter, disk = attaching(DISK, Slot(2, 0, None), NON_PERSISTENT)
    assert isinstance(adapter.device, DEVICE.ParaVirtualSCSIController)
    assert (adapter.device.busNumber, adapter.device.sharedBus) == (2, "noSharing")
    assert disk.device.controllerKey == adapter.device.key < 0


def test_detaching_never_touches_the_file():
    (change,) = detaching(virtual(3))
    assert (change.operation, change.fileOperation) == ("remove", None)


def test_the_hot_added_disk_is_found_by_slot_mode_and_file():
    slot = Slot(0, 3, 1000)
    right = virtual(3, fileName="[s] w.vmdk", diskMode="independent_nonpersistent")
    assert hot_added([controller(), virtual(0), right], slot, "[s] w.vmdk", NON_PERSISTENT) is right
    assert hot_added([controller(), right], slot, "[s] other.vmdk", NON_PERSISTENT) is None
    assert hot_added([controller(), virtual(3, fileName="[s] w.vmdk")], slot, "[s] w.vmdk", NON_PERSISTENT) is None
    assert hot_added([controller(1), right], slot, "[s] w.vmdk", NON_PERSISTENT) is None
    assert hot_added([controller()], slot, "[s] w.vmdk", NON_PERSISTENT) is None
    assert hot_added([controller(), right], slot, "[s] w.vmdk", PERSISTENT) is None


def test_the_redo_log_on_top_of_it_is_no_obstacle():
    parent = DEVICE.VirtualDisk.FlatVer2BackingInfo(fileName="[s] w.vmdk", diskMode="persistent")
    right = virtual(3, fileName="[s] a-REDO_1", diskMode="independent_nonpersistent", parent=parent)
    assert hot_added([controller(), right], Slot(0, 3, 1000), "[s] w.vmdk", NON_PERSISTENT) is right

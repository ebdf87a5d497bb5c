from datetime import UTC, datetime, timedelta, timezone

import pytest
from pyVmomi import vim

from source_agent.vsphere import describe
from source_agent.vsphere.port import Backing

DEVICE = vim.vm.device
KEY = vim.encryption.CryptoKeyId(keyId="secret-key-id", providerId=vim.encryption.KeyProviderId(id="secret-provider"))
SCSI = DEVICE.ParaVirtualSCSIController(key=1000, busNumber=1, sharedBus="noSharing")


def flat(**changes):
    values = {"fileName": "[ds] web/web.vmdk", "diskMode": "persistent", "uuid": "u-1", "changeId": None, **changes}
    return DEVICE.VirtualDisk.FlatVer2BackingInfo(**values)


def virtual(backing, key=2000, controller=1000, **changes):
    values = {
        "key": key,
        "controllerKey": controller,
        "unitNumber": 3,
        "capacityInBytes": 1 << 30,
        "deviceInfo": vim.Description(label="Hard disk 1", summary=""),
        "backing": backing,
        **changes,
    }
    return DEVICE.VirtualDisk(**values)


def only(*devices):
    (found,) = describe.disks(devices)
    return found


def test_a_plain_disk():
    found = only(SCSI, virtual(flat(changeId="52 aa/3")))
    assert (found.key, found.label, found.uuid, found.capacity_bytes) == (2000, "Hard disk 1", "u-1", 1 << 30)
    assert (found.backing, found.backing_path) == (Backing.FILE, "[ds] web/web.vmdk")
    assert (found.controller, found.bus, found.unit) == ("ParaVirtualSCSIController", 1, 3)
    assert (found.change_id, found.adapter) == ("52 aa/3", "lsilogic")
    assert (found.independent, found.shared_bus, found.encrypted) == (False, False, False)


def test_of_encryption_only_the_fact_is_kept():
    found = only(SCSI, virtual(flat(keyId=KEY)))
    assert found.encrypted
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("mode", "independent"),
    [
        ("persistent", False),
        ("independent_persistent", True),
        ("independent_nonpersistent", True),
        ("nonpersistent", True),
    ],
)
def test_disk_modes(mode, independent):
    assert only(SCSI, virtual(flat(diskMode=mode))).independent is independent


def test_a_shared_disk_by_flag_or_by_bus():
    assert only(SCSI, virtual(flat(sharing="sharingMultiWriter"))).shared_bus
    assert not only(SCSI, virtual(flat(sharing="sharingNone"))).shared_bus
    shared = DEVICE.VirtualLsiLogicController(key=1000, busNumber=0, sharedBus="physicalSharing")
    assert only(shared, virtual(flat())).shared_bus


@pytest.mark.parametrize(
    ("backing", "kind"),
    [
        (flat(), Backing.FILE),
        (DEVICE.VirtualDisk.SeSparseBackingInfo(fileName="x", diskMode="persistent", uuid="u"), Backing.FILE),
        (DEVICE.VirtualDisk.FlatVer1BackingInfo(fileName="x", diskMode="persistent"), Backing.FILE),
        (
            DEVICE.VirtualDisk.RawDiskMappingVer1BackingInfo(fileName="x", compatibilityMode="physicalMode"),
            Backing.PHYSICAL_RDM,
        ),
        (
            DEVICE.VirtualDisk.RawDiskMappingVer1BackingInfo(fileName="x", compatibilityMode="virtualMode"),
            Backing.VIRTUAL_RDM,
        ),
        (DEVICE.VirtualDisk.RawDiskVer2BackingInfo(descriptorFileName="x", deviceName="y"), Backing.OTHER),
    ],
    ids=lambda value: type(value).__name__,
)
def test_kinds_of_backing(backing, kind):
    assert only(SCSI, virtual(backing)).backing is kind


@pytest.mark.parametrize(
    ("controller", "adapter", "name"),
    [
        (DEVICE.VirtualIDEController(key=1000, busNumber=0), "ide", "VirtualIDEController"),
        (DEVICE.VirtualBusLogicController(key=1000, busNumber=0), "buslogic", "VirtualBusLogicController"),
        (DEVICE.VirtualLsiLogicSASController(key=1000, busNumber=0), "lsilogic", "VirtualLsiLogicSASController"),
        (DEVICE.VirtualNVMEController(key=1000, busNumber=0), "lsilogic", "VirtualNVMEController"),
        (DEVICE.VirtualAHCIController(key=1000, busNumber=0), "lsilogic", "VirtualAHCIController"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_adapters(controller, adapter, name):
    found = only(controller, virtual(flat()))
    assert (found.adapter, found.controller) == (adapter, name)


def test_old_fields_and_missing_ones():
    old = virtual(flat(), capacityInBytes=None, capacityInKB=1024, deviceInfo=None, controller=77)
    found = only(old)
    assert (found.capacity_bytes, found.label, found.controller, found.bus) == (1 << 20, "", "", 0)


def test_disks_come_by_key_and_other_devices_not_at_all():
    nic = DEVICE.VirtualVmxnet3(key=4000)
    found = describe.disks([nic, virtual(flat(), key=2001), SCSI, virtual(flat(), key=2000)])
    assert [one.key for one in found] == [2000, 2001]


VALUES = {
    "name": "web%2f01",
    "config.instanceUuid": "4C4C4544-0042-5A10-8030-B4C04F564D31",
    "config.version": "vmx-21",
    "config.hardware.device": [SCSI, virtual(flat())],
    "runtime.powerState": "poweredOn",
    "runtime.host": vim.HostSystem("host-7", None),
}


def test_a_vm_of_few_properties():
    found = describe.vm("vm-3", VALUES, {"host-7": ("8.0.3", 42)})
    assert (found.moref, found.name) == ("vm-3", "web/01")
    assert found.instance_uuid == "4c4c4544-0042-5a10-8030-b4c04f564d31"
    assert (found.hardware_version, found.powered_on) == (21, True)
    assert (found.host_version, found.host_build) == ("8.0.3", 42)
    assert (found.encrypted, found.has_vtpm, found.template) == (False, False, False)
    assert (found.tracking_supported, found.tracking_enabled) == (False, False)
    assert not found.consolidation_needed
    assert found.snapshots == ()


def test_a_vm_of_many_properties():
    values = VALUES | {
        "config.keyId": KEY,
        "config.changeTrackingEnabled": True,
        "capability.changeTrackingSupported": True,
        "config.template": True,
        "runtime.consolidationNeeded": True,
        "runtime.host": None,
        "config.hardware.device": [DEVICE.VirtualTPM(key=11000)],
    }
    found = describe.vm("vm-3", values, {})
    assert found.encrypted
    assert found.has_vtpm
    assert found.template
    assert found.consolidation_needed
    assert (found.tracking_enabled, found.tracking_supported) == (True, True)
    assert (found.host_version, found.host_build) == ("", 0)
    assert "secret" not in repr(found)


def test_a_vm_without_configuration_cannot_be_described():
    assert describe.describable(VALUES)
    assert not describe.describable({"name": "orphaned"})


def tree(number, *children):
    return vim.vm.SnapshotTree(
        snapshot=vim.vm.Snapshot(f"snapshot-{number}", None),
        name=f"number%20{number}%25",
        description="d",
        createTime=datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2))),
        childSnapshotList=list(children),
    )


def test_the_snapshot_tree_parents_first():
    found = describe.snapshots(vim.vm.SnapshotInfo(rootSnapshotList=[tree(1, tree(2, tree(3)), tree(4)), tree(5)]))
    assert [one.moref for one in found] == [f"snapshot-{number}" for number in (1, 2, 3, 4, 5)]
    assert found[0].name == "number%201%"
    assert found[0].created == datetime(2026, 1, 2, 1, tzinfo=UTC)
    assert describe.snapshots(None) == ()


def test_a_deep_chain_needs_no_stack():
    top = tree(0)
    for number in range(1, 3000):
        top = tree(number, top)
    assert len(describe.snapshots(vim.vm.SnapshotInfo(rootSnapshotList=[top]))) == 3000


@pytest.mark.parametrize(
    ("escaped", "plain"), [("a%2fb", "a/b"), ("a%5Cb", "a\\b"), ("100%25", "100%"), ("%252f", "%2f"), ("a b", "a b")]
)
def test_names_as_people_write_them(escaped, plain):
    assert describe.plain_name(escaped) == plain


@pytest.mark.parametrize(("text", "number"), [("vmx-19", 19), ("vmx-04", 4), ("", 0), ("odd", 0)])
def test_hardware_versions(text, number):
    assert describe.hardware_version(text) == number


def test_hosts():
    product = vim.AboutInfo(version="8.0.2", build="21997540")
    assert describe.host({"config.product": product}) == ("8.0.2", 21997540)
    assert describe.host({"config.product": vim.AboutInfo(version="8.0.2", build="odd")}) == ("8.0.2", 0)
    assert describe.host({}) == ("", 0)

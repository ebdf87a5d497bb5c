"""The recorder: what crosses is named in it, whatever else a VM is full of."""

import json

import pytest
from pyVmomi import vim

from common.vm_configuration import parse
from source_agent.vsphere.vm_config import PATHS, recorded

DEVICE = vim.vm.device
CANARY = "canary-8d1f"
KEY = vim.encryption.CryptoKeyId(keyId=f"key-{CANARY}", providerId=vim.encryption.KeyProviderId(id=f"kms-{CANARY}"))
BOOT = vim.vm.BootOptions


def card(key, backing, kind=DEVICE.VirtualVmxnet3, mac="00:50:56:0A:0B:0C"):
    return kind(
        key=key,
        backing=backing,
        macAddress=mac,
        externalId=CANARY,
        deviceInfo=vim.Description(label=CANARY, summary=CANARY),
        connectable=DEVICE.VirtualDevice.ConnectInfo(startConnected=True, allowGuestControl=True, connected=False),
    )


def standard(name="VM Network"):
    return DEVICE.VirtualEthernetCard.NetworkBackingInfo(deviceName=name)


def devices():
    disk = DEVICE.VirtualDisk(
        key=2000,
        controllerKey=1000,
        unitNumber=3,
        deviceInfo=vim.Description(label=CANARY, summary=CANARY),
        backing=DEVICE.VirtualDisk.FlatVer2BackingInfo(
            fileName=f"[{CANARY}] a.vmdk", keyId=KEY, uuid=CANARY, contentId=CANARY, changeId=CANARY
        ),
        iofilter=[CANARY],
        vDiskId=vim.vslm.ID(id=CANARY),
    )
    port = vim.dvs.PortConnection(switchUuid=CANARY, portgroupKey="dvportgroup-7", portKey=CANARY)
    return [
        DEVICE.VirtualTPM(
            key=11000,
            endorsementKeyCertificateSigningRequest=[CANARY.encode()],
            endorsementKeyCertificate=[CANARY.encode()],
        ),
        disk,
        card(4000, standard()),
        card(4001, DEVICE.VirtualEthernetCard.DistributedVirtualPortBackingInfo(port=port), DEVICE.VirtualE1000e),
        card(
            4002,
            DEVICE.VirtualEthernetCard.OpaqueNetworkBackingInfo(opaqueNetworkId="seg-9", opaqueNetworkType=CANARY),
        ),
        card(4003, DEVICE.VirtualEthernetCard.LegacyNetworkBackingInfo(deviceName=CANARY), mac=CANARY),
        DEVICE.ParaVirtualSCSIController(key=1000, busNumber=0, sharedBus="physicalSharing"),
        DEVICE.VirtualNVMEController(key=31000, busNumber=1),
        DEVICE.VirtualUSB(key=7000, vendor=1, product=2),
        DEVICE.VirtualCdrom(
            key=3000,
            backing=DEVICE.VirtualCdrom.IsoBackingInfo(fileName=f"[{CANARY}] secrets.iso", backingObjectId=CANARY),
        ),
        DEVICE.VirtualSerialPort(
            key=9000, backing=DEVICE.VirtualSerialPort.URIBackingInfo(serviceURI=f"tcp://{CANARY}", direction="client")
        ),
    ]


def everything():
    """All that ``PATHS`` names, and what a reader that asked for all of ``config`` would be given beside it."""
    option = vim.option.OptionValue(key=f"guestinfo.{CANARY}", value=CANARY)
    return {
        "config.guestId": "debian12_64Guest",
        "config.firmware": "efi",
        "config.version": "vmx-21",
        "config.hardware.numCPU": 4,
        "config.hardware.numCoresPerSocket": 2,
        "config.hardware.memoryMB": 8192,
        "config.hardware.device": devices(),
        "config.bootOptions": BOOT(
            efiSecureBootEnabled=True,
            networkBootProtocol=CANARY,
            bootOrder=[
                BOOT.BootableDiskDevice(deviceKey=2000),
                BOOT.BootableCdromDevice(),
                BOOT.BootableEthernetDevice(deviceKey=4000),
                BOOT.BootableFloppyDevice(),
                BOOT.BootableDevice(),
            ],
        ),
        "config.keyId": KEY,
        "config.annotation": CANARY,
        "config.extraConfig": [option],
        "config.managedBy": vim.ext.ManagedByInfo(extensionKey=CANARY, type=CANARY),
        "config.vmStorageObjectId": CANARY,
        "config.vmxConfigChecksum": CANARY.encode(),
        "config.vAppConfig": vim.vApp.VmConfigInfo(product=[vim.vApp.ProductInfo(key=1, name=CANARY)]),
        "config.files": vim.vm.FileInfo(vmPathName=f"[{CANARY}] a.vmx"),
        "config.locationId": CANARY,
        "config.encryptionDetails": CANARY,
    }


def test_it_tells_what_a_vm_needs_to_be_started_elsewhere():
    told = recorded(everything())

    assert (told.guest_id, told.firmware, told.secure_boot, told.hardware_version) == (
        "debian12_64Guest",
        "efi",
        True,
        21,
    )
    assert (told.cpus, told.cores_per_socket, told.memory_mib, told.vtpm) == (4, 2, 8192, True)
    assert [(one.key, one.kind, one.bus, one.shared) for one in told.controllers] == [
        (1000, "ParaVirtualSCSIController", 0, True),
        (31000, "VirtualNVMEController", 1, False),
    ]
    assert [(one.key, one.controller, one.unit) for one in told.disks] == [(2000, 1000, 3)]
    assert [(one.key, one.kind, one.network_kind, one.network) for one in told.nics] == [
        (4000, "VirtualVmxnet3", "standard", "VM Network"),
        (4001, "VirtualE1000e", "distributed", "dvportgroup-7"),
        (4002, "VirtualVmxnet3", "opaque", "seg-9"),
        (4003, "VirtualVmxnet3", "", ""),
    ]
    assert [one.mac for one in told.nics] == ["00:50:56:0a:0b:0c"] * 3 + [""]
    assert [(one.kind, one.key) for one in told.boot_order] == [
        ("disk", 2000),
        ("cdrom", 0),
        ("ethernet", 4000),
        ("floppy", 0),
    ]


def test_nothing_that_is_not_named_crosses():
    crossed = json.dumps(recorded(everything()).as_members())

    assert CANARY not in crossed
    assert not {path for path in PATHS if "key" in path.lower() or "extra" in path or path == "config"}


def test_every_text_that_crosses_is_one_of_these():
    """A new field is a decision: this fails until somebody takes it."""
    members = recorded(everything()).as_members()

    assert sorted(members) == [
        *("boot_order", "controllers", "cores_per_socket", "cpus", "disks", "firmware", "guest_id"),
        *("hardware_version", "memory_mib", "nics", "secure_boot", "version", "vtpm"),
    ]
    assert {name: sorted(members[name][0]) for name in ("boot_order", "controllers", "disks", "nics")} == {
        "boot_order": ["key", "kind"],
        "controllers": ["bus", "key", "kind", "shared"],
        "disks": ["controller", "key", "unit"],
        "nics": ["connected", "key", "kind", "mac", "network", "network_kind"],
    }


def test_a_vm_of_which_nothing_can_be_seen_is_recorded_all_the_same():
    told = recorded({})

    assert (told.guest_id, told.firmware, told.cpus, told.nics, told.boot_order) == ("", "", 0, (), ())
    assert parse(told.as_members()) == told


@pytest.mark.parametrize("network", ["a\nb", "x" * 129, "\x1b[31m"])
def test_what_the_target_would_refuse_is_left_out_and_the_sync_goes_on(network):
    values = everything()
    values["config.hardware.device"] = [card(-4, standard(network))] * 300
    values["config.guestId"] = "no such/guest"
    told = recorded(values)

    assert (len(told.nics), told.nics[0].network, told.nics[0].key, told.guest_id) == (256, "", 0, "")
    assert parse(told.as_members()) == told

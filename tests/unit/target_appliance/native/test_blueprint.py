from dataclasses import replace

import pytest
from pyVmomi import vim

from common.ids import DiskKey
from common.vm_configuration import Nic, VmConfiguration
from target_appliance.native.blueprint import MARKER, Blueprint, Controller, Crypto, Disk, disk, disks_of, home
from target_appliance.native.section import VCenterSection
from target_appliance.native.shape import Card, shape
from tests.fakes.replica import spec

DEVICE = vim.vm.device
SECTION = VCenterSection(
    host="vc",
    user="u",
    password_file="p",
    certificate_sha256="0" * 64,
    appliance_vm="a",
    cluster="c",
    datastore="store",
    key_provider="kms",
    network="lan",
    networks={"prod": "dr"},
    test_network="isolated",
)
TOLD = VmConfiguration(
    version=1,
    guest_id="windows2019srv_64Guest",
    hardware_version=19,
    firmware="efi",
    secure_boot=True,
    cpus=8,
    cores_per_socket=4,
    memory_mib=16384,
    vtpm=True,
    controllers=(),
    disks=(),
    nics=(
        Nic(4000, "VirtualE1000e", "prod", "standard", "00:50:56:00:00:01", connected=True),
        Nic(4001, "VirtualSriovEthernetCard", "dvportgroup-9", "distributed", "", connected=False),
    ),
    boot_order=(),
)
SCSI, IDE = Controller("ParaVirtualSCSIController", 1), Controller("VirtualIDEController", 0)


def plan(**changes):
    made = Blueprint(
        "f00d",
        "web01",
        shape(SECTION, TOLD, test=False),
        (Disk(DiskKey(2000), "Hard disk 1", 1 << 20, SCSI, 3), Disk(DiskKey(3000), "Hard disk 2", 512, IDE, 0)),
        Crypto("kms", "policy-1"),
    )
    return replace(made, **changes)


def made_home(one):
    backings = [DEVICE.VirtualEthernetCard.NetworkBackingInfo(deviceName=card.network) for card in one.shape.cards]
    return home(one, "store", backings)


def test_the_home_is_encrypted_and_marked_and_has_no_disks():
    spec = made_home(plan())

    assert spec.crypto.cryptoKeyId.providerId.id == "kms"
    assert spec.crypto.cryptoKeyId.keyId == ""
    assert [one.profileId for one in spec.vmProfile] == ["policy-1"]
    assert [(one.key, one.value) for one in spec.extraConfig] == [(MARKER, "f00d")]
    assert not [one for one in spec.deviceChange if isinstance(one.device, DEVICE.VirtualDisk)]


def test_what_the_source_told_is_made():
    spec = made_home(plan())

    assert (spec.numCPUs, spec.numCoresPerSocket, spec.memoryMB) == (8, 4, 16384)
    assert (spec.guestId, spec.version, spec.firmware) == ("windows2019srv_64Guest", "vmx-19", "efi")
    assert spec.bootOptions.efiSecureBootEnabled
    devices = [one.device for one in spec.deviceChange]
    assert [type(one).__name__.rpartition(".")[2] for one in devices] == [
        "ParaVirtualSCSIController",  # IDE's is there from the start
        "VirtualE1000e",
        "VirtualVmxnet3",
        "VirtualTPM",
    ]
    cards = devices[1:3]
    assert [(one.backing.deviceName, one.connectable.startConnected) for one in cards] == [("dr", True), ("lan", False)]
    assert [(one.addressType, one.macAddress) for one in cards] == [("generated", None)] * 2


def test_each_disk_has_a_crypto_spec_of_its_own():
    (change,) = disk(plan().disks[0], 1001, Crypto("kms", "policy-1")).deviceChange

    assert (change.operation, change.fileOperation) == ("add", "create")
    assert change.backing.crypto.cryptoKeyId.providerId.id == "kms"
    assert [one.profileId for one in change.profile] == ["policy-1"]
    assert (change.device.controllerKey, change.device.unitNumber) == (1001, 3)
    assert change.device.backing.thinProvisioned


def test_without_a_policy_none_is_given():
    spec = made_home(plan(crypto=Crypto("kms")))

    assert spec.vmProfile in (None, [])


@pytest.mark.parametrize(
    ("test_network", "cards"),
    [
        ("isolated", (Card("VirtualE1000e", "isolated", True), Card("VirtualSriovEthernetCard", "isolated", False))),
        (None, ()),
    ],
)
def test_a_test_is_on_the_isolated_network_or_on_none(test_network, cards):
    section = SECTION.model_copy(update={"test_network": test_network})

    assert shape(section, TOLD, test=True).cards == cards


def test_where_nothing_is_told_the_configuration_holds():
    found = shape(SECTION, None, test=False)

    assert (found.cpus, found.memory_mib, found.firmware, found.vtpm) == (2, 4096, "bios", False)
    assert found.cards == (Card("VirtualVmxnet3", "lan", True),)


def test_a_disk_of_an_unknown_controller_gets_one_that_guests_know():
    class Record:
        disks = ()

    class Held:
        def __init__(self, **changes):
            self.spec = replace(spec(), **changes)

    Record.disks = (Held(controller="VirtualAHCIController", bus=1, unit=2), Held(controller="", bus=0, unit=1))

    known, unknown = disks_of(Record)

    assert (known.controller, known.unit) == (Controller("VirtualAHCIController", 1), 2)
    assert unknown.controller == Controller("VirtualLsiLogicSASController", 0)

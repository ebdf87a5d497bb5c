from dataclasses import replace

import pytest

from common.errors import Fault
from common.ids import DiskKey
from target_appliance.native.blueprint import Controller, Disk
from target_appliance.native.made import KeyId, MadeDisk, MadeVm, keys_of, unfit

SCSI = Controller("ParaVirtualSCSIController", 0)
HOME, KEY = KeyId("home", "kms"), KeyId("disk", "kms")
WANTED = (Disk(DiskKey(2000), "Hard disk 1", 1 << 20, SCSI, 0),)
DISK = MadeDisk(2005, SCSI, 0, "[s] web01/web01.vmdk", 1 << 20, KEY)
VM = MadeVm("vm-7", "web01", running=False, key=HOME, controllers={SCSI: 1000}, disks=(DISK,))


def judged(vm, missing=frozenset()):
    return unfit(vm, WANTED, "kms", missing)


def test_home_and_disks_under_keys_of_the_provider_are_fit():
    assert judged(VM) is None
    assert keys_of(VM) == (HOME, KEY)


@pytest.mark.parametrize(
    ("vm", "words"),
    [
        (replace(VM, key=None), "VM web01 was created, but is not encrypted"),
        (replace(VM, key=KeyId("home", "other")), "VM web01 is encrypted under other, not under kms"),
        (replace(VM, key=KeyId("home", "")), "under no provider"),
        (replace(VM, disks=(replace(DISK, key=None),)), "disk 2000 of VM web01 was created, but is not encrypted"),
        (
            replace(VM, disks=(replace(DISK, key=KeyId("d", "other")),)),
            "disk 2000 of VM web01 is encrypted under other",
        ),
        (replace(VM, disks=()), "disk 2000 of VM web01 is not there as it was made"),
        (replace(VM, disks=(replace(DISK, unit=1),)), "is not there as it was made"),
        (replace(VM, disks=(replace(DISK, capacity_bytes=512),)), "is not there as it was made"),
    ],
)
def test_anything_else_stops_before_the_first_byte(vm, words):
    error = judged(vm)

    assert error is not None
    assert words in error.message
    assert error.message.endswith("so nothing more is written to it")
    assert error.fault is Fault.TARGET


@pytest.mark.parametrize("key", [HOME, KEY])
def test_a_key_that_the_provider_does_not_have_is_foreign(key):
    error = judged(VM, frozenset({key}))

    assert error is not None
    assert "under a key that kms does not have" in error.message

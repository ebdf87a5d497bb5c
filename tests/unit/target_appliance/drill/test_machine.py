"""The machine that qemu is told to be, and pictures of its screen."""

import numpy as np
import pytest

from common.errors import InvalidInputError
from target_appliance.drill.machine import Accelerator, DrillDisk, Firmware, Handles, Machine, command
from target_appliance.drill.picture import parse, same


def words(disks, firmware=Firmware.BIOS, accelerator=Accelerator.TCG):
    handles = Handles(9, tuple(range(20, 20 + len(disks))), 30 if firmware is Firmware.UEFI else None)
    return " ".join(command(Machine(firmware, 512, 1, tuple(disks)), accelerator, handles))


def test_there_is_no_network_and_no_file_for_what_is_written():
    line = words([DrillDisk("disk-2000", "ParaVirtualSCSIController", 0, 0)])
    assert "-nic none" in line
    assert "-sandbox on" in line
    assert "file=/proc/self/fd/20" in line
    assert "snapshot" not in line


def test_disks_sit_where_they_sat():
    line = words(
        [
            DrillDisk("a", "ParaVirtualSCSIController", 0, 0),
            DrillDisk("b", "ParaVirtualSCSIController", 0, 3),
            DrillDisk("c", "ParaVirtualSCSIController", 1, 0),
            DrillDisk("d", "VirtualLsiLogicSASController", 2, 1),
            DrillDisk("e", "VirtualNVMEController", 0, 0),
        ]
    )
    assert line.count("-device pvscsi,") == 2
    for place in ("bus=bus0.0,scsi-id=0", "bus=bus0.0,scsi-id=3", "bus=bus1.0,scsi-id=0", "bus=bus2.0,scsi-id=1"):
        assert f"{place},bootindex=" in line
    assert "ide-hd,drive=disk4,bus=bus3.0,bootindex=4" in line


def test_more_disks_than_ports_have_another_controller():
    line = words([DrillDisk(str(number), "VirtualAHCIController", 0, number) for number in range(8)])
    assert line.count("-device ich9-ahci,") == 2
    assert "bus=bus1.1,bootindex=7" in line


def test_uefi_has_variables_of_its_own():
    assert "if=pflash,unit=1,format=raw,file=/proc/self/fd/30" in words([], Firmware.UEFI)
    assert "pflash" not in words([])


@pytest.mark.parametrize(("differ", "same_"), [(0, True), (2, True), (3, False), (100, False)])
def test_pictures_are_the_same_when_few_pixels_differ(differ, same_):
    one, other = np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10, 3), np.uint8)
    other.reshape(100, 3)[:differ, 1] = 9
    assert same(one, other) is same_
    assert not same(one, np.zeros((10, 11, 3), np.uint8))


def test_a_picture_is_read_as_qemu_writes_it():
    assert parse(b"P6\n2 1\n255\nabcdef", "file x").tolist() == [[[97, 98, 99], [100, 101, 102]]]
    for content in (b"", b"\x89PNG", b"P6\n2 1\n255\nabc", b"P6\n99999999 1\n255\n"):
        with pytest.raises(InvalidInputError):
            parse(content, "file x")

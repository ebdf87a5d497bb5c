import os

import pytest

from common.errors import Fault, SourceError, VCenterError
from common.vsphere.disk import AttachedDisk
from common.vsphere.locate import GONE_SECONDS, WAIT_SECONDS, Locator, size_of

SIZE = 65536
DISK = AttachedDisk(2001, 1, 3)


class Guest:
    """A guest's device folders, made of files."""

    def __init__(self, root):
        self.devices, self.sys, self.dev = root / "by-path", root / "sys", root / "dev"
        for folder in (self.devices, self.sys / "class" / "scsi_device", self.dev):
            folder.mkdir(parents=True)

    def node(self, name, size=SIZE):
        path = self.devices / name
        path.touch()
        os.truncate(path, size)
        return path

    def scsi_device(self, address, block, size=SIZE):
        (self.sys / "class" / "scsi_device" / address / "device" / "block" / block).mkdir(parents=True)
        path = self.dev / block
        path.touch()
        os.truncate(path, size)
        return path

    def locator(self, clock):
        return Locator(clock, self.devices, sys_dir=self.sys, dev_dir=self.dev)


@pytest.fixture
def guest(tmp_path):
    return Guest(tmp_path)


@pytest.fixture
def locator(guest, clock):
    return guest.locator(clock)


def find(locator, before=frozenset(), disk=DISK, size=SIZE):
    return locator.find(disk, size, before)


def test_by_vspheres_own_numbers(guest, locator):
    guest.node("scsi-1:4")
    guest.node("scsi-0:3")
    wanted = guest.node("scsi-1:3")
    assert find(locator) == wanted


def test_by_udevs_path_where_the_host_number_says_nothing(guest, locator):
    guest.node("pci-0000:03:00.0-scsi-0:0:4:0")
    wanted = guest.node("pci-0000:13:00.0-scsi-0:0:3:0")
    guest.node("pci-0000:13:00.0-scsi-0:0:3:0-part1")
    guest.node("pci-0000:13:00.0-scsi-0:0:13:0")
    assert find(locator) == wanted


def test_by_sysfs_without_udev(guest, clock):
    wanted = guest.scsi_device("2:0:3:0", "sdq")
    guest.scsi_device("2:0:4:0", "sdr")
    guest.devices.rmdir()
    assert find(guest.locator(clock)) == wanted


def test_the_first_way_wins(guest, locator):
    guest.node("pci-0000:13:00.0-scsi-0:0:3:0")
    guest.scsi_device("2:0:3:0", "sdq")
    wanted = guest.node("scsi-1:3")
    assert find(locator) == wanted


@pytest.mark.parametrize("name", ["scsi-1:3", "pci-0000:13:00.0-scsi-0:0:3:0"])
def test_a_node_that_was_there_before_is_never_taken(guest, locator, clock, name):
    guest.node(name)
    began = clock.monotonic()
    with pytest.raises(SourceError, match="does not show") as caught:
        find(locator, before=locator.present())
    assert WAIT_SECONDS <= clock.monotonic() - began < WAIT_SECONDS + 1
    assert "device_dir" in caught.value.next_step


def test_a_node_that_went_and_came_again_is_new(guest, locator):
    node = guest.node("scsi-1:3")
    before = locator.present()
    guest.node("scsi-9:9").rename(node)  # not unlinked first: the inode number could be given out again
    assert find(locator, before=before) == node


def test_the_size_must_be_the_disks(guest, locator):
    guest.node("pci-0000:13:00.0-scsi-0:0:3:0", SIZE + 512)
    with pytest.raises(SourceError, match=f"device of {SIZE} bytes"):
        find(locator)
    guest.node("scsi-1:3", SIZE - 512)
    with pytest.raises(SourceError, match="does not show"):
        find(locator)


def test_two_that_fit_are_one_too_many(guest, locator):
    guest.node("pci-0000:03:00.0-scsi-0:0:3:0")
    guest.node("pci-0000:13:00.0-scsi-0:0:3:0")
    with pytest.raises(SourceError, match="ambiguous"):
        find(locator)


class Appearing:
    """A clock by whose third pause the kernel has found the disk."""

    def __init__(self, clock, appear):
        self._clock, self._appear, self.pauses = clock, appear, 0

    def __getattr__(self, name):
        return getattr(self._clock, name)

    def sleep(self, seconds):
        self.pauses += 1
        if self.pauses == 3:
            self._appear()
        self._clock.sleep(seconds)


def test_it_waits_for_the_kernel_and_asks_it_to_look(guest, clock):
    scan = guest.sys / "class" / "scsi_host" / "host0" / "scan"
    scan.parent.mkdir(parents=True)
    scan.touch()
    slow = Appearing(clock, lambda: guest.node("scsi-1:3"))
    assert find(guest.locator(slow)).name == "scsi-1:3"
    assert slow.pauses == 3
    assert scan.read_text() == "- - -"


def test_the_kernel_is_told_to_forget(guest, locator):
    node = guest.node("scsi-1:3")
    switch = guest.sys / "class" / "block" / "scsi-1:3" / "device" / "delete"
    locator.forget(node)
    switch.parent.mkdir(parents=True)
    switch.touch()
    locator.forget(node)
    assert switch.read_text() == "1"


def test_it_waits_for_a_node_to_go_but_not_for_ever(guest, clock):
    node = guest.node("scsi-1:3")
    slow = Appearing(clock, node.unlink)
    guest.locator(slow).wait_gone(node)
    assert slow.pauses == 3
    node = guest.node("scsi-1:3")
    began = clock.monotonic()
    guest.locator(clock).wait_gone(node)
    assert GONE_SECONDS <= clock.monotonic() - began < GONE_SECONDS + 1


def test_sizes(tmp_path):
    path = tmp_path / "x"
    assert size_of(path) == -1
    path.write_bytes(b"12345")
    assert size_of(path) == 5


def test_at_the_target_it_is_the_targets_failure(guest, clock):
    locator = Locator(clock, guest.devices, side=Fault.TARGET, sys_dir=guest.sys, dev_dir=guest.dev)
    with pytest.raises(VCenterError, match="does not show") as failed:
        find(locator)
    assert failed.value.fault is Fault.TARGET
    assert "[vcenter] section" in failed.value.next_step

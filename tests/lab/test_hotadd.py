"""Hot-add: links come and go with the agent VM's devices, and mistakes have the consequences they have in the field."""

import time
from pathlib import Path

import pytest
from pyVmomi import vim as vmodl_vim

from tests.lab.site import Lab
from tests.lab.vim import Vim, disks, wait


def test_a_snapshots_disk_shows_frozen_and_goes(lab: Lab, vim: Vim):
    vm, agent, guest = vim.vm("web01"), vim.vm("agent-vm"), lab.guest("web01", 2001)
    frozen = guest.read(0, guest.size)
    snapshot = vim.snapshot(vm)
    link = lab.folder / "devices" / "scsi-1:3"
    assert not link.exists()
    device = vim.attach(agent, disks(snapshot)[1], bus=1, unit=3)
    assert link.is_symlink()
    guest.write(4096, b"written after the snapshot")
    assert link.read_bytes() == frozen
    assert [(one["vm"], one["disk"], one["link"]) for one in lab.control("orphans")] == [("web01", 2001, "scsi-1:3")]
    vim.detach(agent, device)
    assert not link.is_symlink()
    assert lab.control("orphans") == []
    vim.remove(snapshot)
    assert guest.read(4096, 26) == b"written after the snapshot"


def test_the_agents_own_disk_shows_too(lab: Lab):
    assert [path.name for path in (lab.folder / "devices").iterdir()] == ["scsi-0:0"]


def test_a_snapshot_above_another_shows_its_own_moment(lab: Lab, vim: Vim):
    vm, agent, guest = vim.vm("plain01"), vim.vm("agent-vm"), lab.guest("plain01", 2000)
    vim.snapshot(vm, "older")
    guest.write(512, b"between")
    frozen = guest.read(0, guest.size)
    newer = vim.snapshot(vm, "newer")
    guest.write(512, b"after!!")
    device = vim.attach(agent, disks(newer)[0], bus=0, unit=8)
    assert (lab.folder / "devices" / "scsi-0:8").read_bytes() == frozen
    vim.detach(agent, device)
    assert not list((lab.folder / "disks" / "plain01" / "2000").glob("attached-*"))


def test_a_disk_left_attached_keeps_its_deltas_until_consolidated(lab: Lab, vim: Vim):
    vm, agent, guest = vim.vm("plain01"), vim.vm("agent-vm"), lab.guest("plain01", 2000)
    snapshot = vim.snapshot(vm)
    device = vim.attach(agent, disks(snapshot)[0], bus=1, unit=0)
    guest.write(0, b"kept in the delta")
    vim.remove(snapshot)
    assert vm.runtime.consolidationNeeded
    assert "-0000" in disks(vm)[0].backing.fileName
    vim.detach(agent, device)
    wait(vm.ConsolidateVMDisks_Task())
    assert not vm.runtime.consolidationNeeded
    assert "-0000" not in disks(vm)[0].backing.fileName
    assert guest.read(0, 17) == b"kept in the delta"
    lab.control("consolidation-needed", "plain01", "on")
    assert vm.runtime.consolidationNeeded
    wait(vm.ConsolidateVMDisks_Task())
    assert not vm.runtime.consolidationNeeded


def test_what_a_host_would_refuse_is_refused(lab: Lab, vim: Vim):
    vm, agent, plain = vim.vm("web01"), vim.vm("agent-vm"), vim.vm("plain01")
    with pytest.raises(vmodl_vim.fault.FileLocked):
        vim.attach(agent, disks(vm)[0], bus=1, unit=3)
    snapshot = vim.snapshot(vm)
    with pytest.raises(vmodl_vim.fault.InvalidDeviceSpec):
        vim.attach(agent, disks(snapshot)[0], bus=1, unit=3, mode="persistent")
    with pytest.raises(vmodl_vim.fault.InvalidDeviceSpec):
        vim.attach(plain, disks(snapshot)[0], bus=0, unit=3)
    assert lab.control("orphans") == []


def test_detaching_with_destroy_destroys(lab: Lab, vim: Vim):
    vm, agent = vim.vm("legacy01"), vim.vm("agent-vm")
    snapshot = vim.snapshot(vm)
    device = vim.attach(agent, disks(snapshot)[0], bus=1, unit=5)
    base = Path(lab.folder / "devices" / "scsi-1:5").resolve()
    assert base.exists()
    vim.detach(agent, device, "destroy")
    assert not base.exists()


def test_a_guest_may_take_its_time_to_show_a_disk(lab: Lab, vim: Vim):
    vm, agent = vim.vm("web01"), vim.vm("agent-vm")
    snapshot = vim.snapshot(vm)
    lab.control("plug-delay", 0.3)
    device = vim.attach(agent, disks(snapshot)[0], bus=1, unit=9)
    link = lab.folder / "devices" / "scsi-1:9"
    assert not link.exists()
    deadline = time.monotonic() + 10
    while not link.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert link.exists()
    lab.control("plug-delay", 0)
    vim.detach(agent, device)
    assert not link.is_symlink()

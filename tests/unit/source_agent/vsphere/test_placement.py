"""Folders and custom attributes, as the lab's vCenter tells them."""

import pytest
from pyVmomi import vim as types

from source_agent.vsphere.connection import connect
from source_agent.vsphere.placement import folder_paths
from tests.contracts.vsphere_worlds import settings
from tests.fakes.clock import ManualClock
from tests.lab.fixtures import lab, vim
from tests.lab.vim import wait

__all__ = ["lab", "vim"]


def test_paths_go_from_the_root_down():
    tree = {"root": ("", None), "dc": ("site", "root"), "vm": ("vm", "dc"), "lost": ("lost", "unseen")}
    assert folder_paths(tree) == {"root": "/", "dc": "/site", "vm": "/site/vm", "lost": "/"}


def test_a_tree_that_bites_its_tail_ends():
    assert set(folder_paths({"a": ("a", "b"), "b": ("b", "a")})) == {"a", "b"}


@pytest.mark.lab
def test_folders_and_attributes_are_read(lab, vim):
    center = vim.content.rootFolder.childEntity[0]
    folder = center.vmFolder.CreateFolder("prod")
    manager = vim.content.customFieldsManager
    field = manager.AddCustomFieldDef("Protection", types.VirtualMachine)
    vm = vim.vm("web01")
    try:
        wait(folder.MoveIntoFolder_Task([vm]))
        manager.SetField(vm, field.key, "gold")
        vsphere = connect(settings(lab), ManualClock())
        try:
            web, plain = (
                next(one for one in vsphere.placements() if one.name == name) for name in ("web01", "plain01")
            )
        finally:
            vsphere.close()
        assert web.folder == "/DC0/vm/prod"
        assert web.attributes == {"Protection": "gold"}
        assert plain.folder == "/DC0/vm"
        assert plain.attributes == {}
        assert web.host == plain.host != ""
        assert web.datastores == plain.datastores == ("LocalDS_0",)
    finally:
        wait(center.vmFolder.MoveIntoFolder_Task([vm]))
        manager.RemoveCustomFieldDef(field.key)
        wait(folder.Destroy_Task())

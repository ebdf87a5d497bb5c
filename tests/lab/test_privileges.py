"""A vCenter that denies privileges: checks answer truly, methods name what lacks."""

import pytest
from pyVmomi import vim as api
from pyVmomi import vmodl

from tests.lab.fixtures import lab, vim
from tests.lab.site import Lab
from tests.lab.vim import Vim, disks

__all__ = ["lab", "vim"]
pytestmark = pytest.mark.lab

CREATE, ATTACH = "VirtualMachine.State.CreateSnapshot", "VirtualMachine.Config.AddExistingDisk"


@pytest.fixture(autouse=True)
def all_allowed(lab: Lab):
    yield
    lab.control("allow")


def granted(vim: Vim, vm, *ids: str) -> list[bool]:
    manager = vim.content.authorizationManager
    (answer,) = manager.HasPrivilegeOnEntities([vm], vim.content.sessionManager.currentSession.key, list(ids))
    assert [one.privId for one in answer.privAvailability] == list(ids)
    return [one.isGranted for one in answer.privAvailability]


def test_a_denial_holds_for_its_user_and_its_privilege(lab: Lab, vim: Vim):
    web = vim.vm("web01")
    lab.control("deny", CREATE, "--user", "somebody@vsphere.local")
    assert granted(vim, web, CREATE, ATTACH) == [True, True]
    vim.remove(vim.snapshot(web))
    lab.control("deny", CREATE, "--user", lab.vcenter.user)
    assert granted(vim, web, CREATE, ATTACH) == [False, True]
    with pytest.raises(api.fault.NoPermission) as refused:
        vim.snapshot(web)
    assert refused.value.privilegeId == CREATE
    assert refused.value.object == web
    assert lab.control("snapshots", "web01") == []
    lab.control("allow")
    assert granted(vim, web, CREATE) == [True]


def test_a_hidden_denial_shows_in_the_call_alone(lab: Lab, vim: Vim):
    web = vim.vm("web01")
    lab.control("deny", CREATE, "--hidden")
    assert granted(vim, web, CREATE) == [True]
    with pytest.raises(api.fault.NoPermission):
        vim.snapshot(web)


def test_what_an_encrypted_disk_takes_to_be_attached(lab: Lab, vim: Vim):
    agent = vim.vm("agent-vm")
    frozen = {name: disks(vim.snapshot(vim.vm(name)))[0] for name in ("web01", "plain01")}
    lab.control("deny", "Cryptographer.AddDisk")
    vim.detach(agent, vim.attach(agent, frozen["plain01"], 0, 4))
    with pytest.raises(api.fault.NoPermission) as refused:
        vim.attach(agent, frozen["web01"], 0, 4)
    assert refused.value.privilegeId == "Cryptographer.AddDisk"
    assert lab.control("orphans") == []


def test_unknown_ids_are_granted_to_nobody_and_another_session_is_not_answered_for(vim: Vim):
    web = vim.vm("web01")
    assert granted(vim, web, "VirtualMachine.Config.Levitate") == [False]
    with pytest.raises(vmodl.fault.InvalidArgument):
        vim.content.authorizationManager.HasPrivilegeOnEntities([web], "another", [CREATE])

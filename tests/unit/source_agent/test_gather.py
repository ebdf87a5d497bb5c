import pytest

from source_agent.preflight import check, gather
from source_agent.vsphere.snapshots import marker, new_name
from tests.unit.source_agent.vms import AGENT


def gathered(vsphere, name="web01"):
    return gather(vsphere, vsphere.vm(name), vsphere.vm("agent-vm"), AGENT, quiesce=False)


def test_what_the_login_lacks_is_found_and_refused(vsphere, site):
    site.denied = frozenset({"Cryptographer.Access", "VirtualMachine.Config.AddExistingDisk"})
    found = check(vsphere.vm("web01"), gathered(vsphere))
    assert [one.rule for one in found] == ["privilege", "privilege"]
    assert "read encrypted disks" in found[0].sentence
    assert "VirtualMachine.Config.AddExistingDisk on VM agent-vm" in found[1].sentence


@pytest.mark.parametrize("encrypted", [True, False])
def test_an_encrypted_disk_alone_asks_for_the_right_to_read_it(vsphere, site, encrypted):
    site.denied = frozenset({"Cryptographer.Access"})
    web = next(one for one in site.machines.values() if one.name == "web01")
    web.encrypted = False
    for disk in web.disks.values():
        disk.encrypted = encrypted
    assert bool(gathered(vsphere).missing) is encrypted


def test_own_leftovers_do_not_count_as_snapshots(vsphere, site):
    moref = vsphere.vm("web01").moref
    left = vsphere.create_snapshot(moref, new_name(AGENT), f"{marker(AGENT)}; taken", quiesce=False)
    site.add_foreign_snapshot(moref, "before the upgrade")
    assert gathered(vsphere).own_snapshots == {left.moref}

"""What every driver of the vSphere port tells of the hosts that a VM was on, and may come to."""

from datetime import timedelta

from source_agent.vsphere.past import Past, Visit
from tests.contracts.vsphere_worlds import GOOD_RELEASE, PLAIN, WEB

BAD = ("6.0.0", 2494585)


def test_a_vm_that_stayed_where_it_was_has_no_past(world):
    vsphere = world.vsphere
    assert vsphere.past_since(vsphere.vm(WEB).moref, vsphere.now()) == Past()


def test_a_visit_to_another_host_and_back_is_remembered_with_both_hosts_releases(world):
    vsphere = world.vsphere
    world.upgrade(*GOOD_RELEASE)
    world.upgrade(*BAD, host=world.elsewhere)
    moref, home, before = vsphere.vm(WEB).moref, vsphere.surroundings(vsphere.vm(WEB).moref).host, vsphere.now()
    world.migrate(WEB, world.elsewhere)
    assert vsphere.surroundings(moref).host == world.elsewhere
    assert (vsphere.vm(WEB).host_version, vsphere.vm(WEB).host_build) == BAD
    world.migrate(WEB, home)
    assert (vsphere.vm(WEB).host_version, vsphere.vm(WEB).host_build) == GOOD_RELEASE
    expected = sorted((Visit(home, *GOOD_RELEASE), Visit(world.elsewhere, *BAD)), key=lambda visit: visit.host)
    assert vsphere.past_since(moref, before) == Past(visits=tuple(expected))
    assert vsphere.past_since(moref, before + timedelta(days=1)) == Past()
    assert vsphere.past_since(vsphere.vm(PLAIN).moref, before) == Past()


def test_a_host_that_was_upgraded_after_the_visit_says_so(world):
    vsphere = world.vsphere
    moref, home, before = vsphere.vm(WEB).moref, vsphere.surroundings(vsphere.vm(WEB).moref).host, vsphere.now()
    world.migrate(WEB, world.elsewhere)
    world.migrate(WEB, home)
    world.upgrade("6.7.0", 8169922, host=world.elsewhere)
    found = {visit.host: visit for visit in vsphere.past_since(moref, before).visits}
    assert found[world.elsewhere] == Visit(world.elsewhere, "6.7.0", 8169922, restarted=True)
    assert not found[home].restarted


def test_hosts_that_may_come_to_run_a_vm(world):
    vsphere = world.vsphere
    found = vsphere.possible_hosts()
    assert found.keys() == {vm.moref for vm in vsphere.vms()}
    for hosts in found.values():
        assert list(hosts) == sorted(hosts)
        assert world.elsewhere in hosts
    web = vsphere.vm(WEB).moref
    assert vsphere.surroundings(web).host in found[web]


def test_a_revert_is_no_visit(world):
    vsphere = world.vsphere
    moref, before = vsphere.vm(WEB).moref, vsphere.now()
    world.foreign_snapshot(WEB, "before the experiment")
    world.revert(WEB)
    assert vsphere.past_since(moref, before) == Past(reverted=True)

import socket

import pytest

from source_agent.preflight import check, gather
from source_agent.preflight.probe import unreachable
from source_agent.vsphere.snapshots import marker, new_name
from tests.unit.source_agent.vms import AGENT


def gathered(vsphere, name="web01", **changes):
    return gather(vsphere, vsphere.vm(name), vsphere.vm("agent-vm"), AGENT, quiesce=False, **changes)


def test_what_the_login_lacks_is_found_and_refused(vsphere, site):
    site.denied = frozenset({"Cryptographer.Access", "VirtualMachine.Config.AddExistingDisk"})
    found = check(vsphere.vm("web01"), gathered(vsphere))
    assert [one.rule for one in found] == ["privilege", "privilege", "key-provider"]
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


@pytest.mark.parametrize(
    ("transport", "ports"), [("hotadd", []), ("vddk-nbdssl", [443, 902]), ("vddk-hotadd", [443, 902])]
)
def test_ports_of_the_host_are_tried_where_they_are_needed(vsphere, transport, ports):
    tried = []

    def probe(host, wanted):
        tried.append((host, list(wanted)))
        return ("localhost:902 (timed out)",) if ports else ()

    found = gathered(vsphere, transport=transport, probe=probe)
    assert tried == [("esx1", ports)]
    assert [one.rule for one in check(vsphere.vm("web01"), found)] == ["host-port"] * bool(ports) + ["key-provider"]


def test_a_port_that_listens_and_one_that_does_not():
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_server(("127.0.0.1", 0)) as other:
        port, closed = listening.getsockname()[1], other.getsockname()[1]
        other.close()
        assert unreachable("127.0.0.1", [port]) == ()
        (told,) = unreachable("127.0.0.1", [port, closed])
    assert told == f"127.0.0.1:{closed} (Connection refused)"

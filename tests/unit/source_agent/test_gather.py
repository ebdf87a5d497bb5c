import pytest

from source_agent.preflight import Probe, Severity, check, gather
from source_agent.vsphere.snapshots import marker, new_name
from tests.fakes.clock import ManualClock
from tests.unit.source_agent.vms import AGENT


def gathered(vsphere, name="web01", **changes):
    changes.setdefault("probe", Probe(ManualClock()))
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


class Doors:
    """A dialler to whom all doors are open but some."""

    def __init__(self, *shut):
        self.dialled = []
        self.shut = shut

    def __call__(self, host, port, seconds):
        self.dialled.append((host, port))
        if (host, port) in self.shut:
            raise TimeoutError("timed out")


@pytest.mark.parametrize(("transport", "wanted"), [("hotadd", []), ("vddk-nbdssl", [443, 902]), ("vddk-hotadd", [443])])
def test_ports_of_the_host_are_tried_where_they_are_needed(vsphere, transport, wanted):
    doors = Doors()
    gathered(vsphere, transport=transport, probe=Probe(ManualClock(), doors))
    assert sorted(doors.dialled) == [("esx1", port) for port in wanted]


def test_a_host_of_which_the_data_port_is_shut_is_refused_and_another_host_a_warning(vsphere):
    doors = Doors(("esx1", 9902), ("esx2", 9902), ("esx2", 443))
    setting = gathered(
        vsphere, transport="vddk-nbdssl", data_port=9902, others=("esx1", "esx2"), probe=Probe(ManualClock(), doors)
    )
    found = [one for one in check(vsphere.vm("web01"), setting) if one.severity is not Severity.NOTE]
    assert [(one.severity, one.rule) for one in found] == [
        (Severity.REFUSE, "host-port"),
        (Severity.WARN, "other-host-port"),
        (Severity.WARN, "other-host-port"),
    ]
    assert "esx1, the host of web01, takes no connection at port 9902 (timed out)" in found[0].sentence
    told = [one.remedy.removeprefix("let the agent's VM through to ") for one in found]
    assert told == ["port 9902 of esx1", "port 443 of esx2", "port 9902 of esx2"]
    assert len(doors.dialled) == 4

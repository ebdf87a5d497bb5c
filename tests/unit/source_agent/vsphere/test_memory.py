"""What memory's vCenter does beyond the contract: what the tests of others lean on."""

import pytest

from common.errors import NotFoundError, PreconditionError, SourceError
from common.extent import Extent
from source_agent.vsphere.changed_extents import changed_extents
from source_agent.vsphere.memory import MemorySite, MemoryVSphere


def test_guests_write_anywhere_inside_and_nowhere_else(site, vsphere):
    moref = vsphere.vm("web01").moref
    site.write(moref, 2001, (3 << 16) + 510, b"ab")
    assert site.image(moref, 2001)[-2:] == b"ab"
    for offset, data in ((-1, b"a"), ((3 << 16) + 511, b"ab")):
        with pytest.raises(ValueError, match="outside"):
            site.write(moref, 2001, offset, data)


def test_without_tracking_there_is_no_change_id(vsphere):
    taken = vsphere.create_snapshot(vsphere.vm("web01").moref, "s", "", quiesce=True)
    assert [disk.change_id for disk in taken.disks] == [None, None]


@pytest.mark.parametrize("areas", [1, 2, 3])
def test_small_pages(tmp_path, areas):
    site = MemorySite(tmp_path, page_areas=areas, tracked_bytes=512)
    vsphere = MemoryVSphere(site)
    moref = site.add_vm("web01", [1 << 20]).moref
    vsphere.enable_tracking(moref)
    first = vsphere.create_snapshot(moref, "a", "", quiesce=False)
    for offset in range(0, 10 * 1024, 1024):
        site.write(moref, 2000, offset, b"x")
    second = vsphere.create_snapshot(moref, "b", "", quiesce=False)
    page = vsphere.changed_page(moref, second.moref, 2000, first.disks[0].change_id, 0)
    assert len(page.areas) == areas
    found = changed_extents(vsphere, moref, second, second.disks[0], first.disks[0].change_id)
    assert found == tuple(Extent(offset, 512) for offset in range(0, 10 * 1024, 1024))


def test_a_grown_disk_keeps_its_log(site, vsphere):
    moref = vsphere.vm("web01").moref
    disk = site.machines[moref].disks[2000]
    disk.grow(2 << 20)
    assert vsphere.vm("web01").disks[0].capacity_bytes == 2 << 20
    assert len(site.image(moref, 2000)) == 2 << 20


def test_templates_cannot_be_snapshotted(site, vsphere):
    moref = vsphere.vm("web01").moref
    site.machines[moref].template = True
    with pytest.raises(SourceError, match="template"):
        vsphere.create_snapshot(moref, "s", "", quiesce=False)


def test_a_snapshot_whose_disk_is_attached_stays(vsphere):
    moref, agent = vsphere.vm("web01").moref, vsphere.vm("agent-vm").moref
    taken = vsphere.create_snapshot(moref, "s", "", quiesce=False)
    attached = vsphere.attach_disk(agent, taken.disks[0])
    with pytest.raises(SourceError, match="attached elsewhere"):
        vsphere.remove_snapshot(moref, taken.moref)
    vsphere.detach_disk(agent, attached.key)
    vsphere.remove_snapshot(moref, taken.moref)
    assert vsphere.vm("web01").snapshots == ()


def test_addresses_run_out(vsphere):
    moref, agent = vsphere.vm("web01").moref, vsphere.vm("agent-vm").moref
    taken = vsphere.create_snapshot(moref, "s", "", quiesce=False)
    addresses = {(one.bus, one.unit) for one in (vsphere.attach_disk(agent, taken.disks[0]) for _ in range(59))}
    assert len(addresses) == 59
    with pytest.raises(PreconditionError, match="no free SCSI address"):
        vsphere.attach_disk(agent, taken.disks[0])


def test_unknown_things(site, vsphere):
    with pytest.raises(NotFoundError):
        site.frozen_file("snapshot-99", 2000)
    with pytest.raises(NotFoundError):
        vsphere.enable_tracking("vm-99")

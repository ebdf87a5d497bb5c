import math
import threading

import pytest

from common.errors import BusyError, NotFoundError, SourceError, SourceUnavailableError
from source_agent.disk_read.hotadd.journal import Attachment
from source_agent.disk_read.hotadd.reader import HotAddReader, ours
from tests.faults.vsphere import FaultyVSphere
from tests.unit.source_agent.vms import disk, vm


def gone():
    return SourceUnavailableError("the vCenter is gone", subject="vcenter", next_step="wait")


@pytest.fixture
def faulty(vsphere):
    return FaultyVSphere(vsphere)


@pytest.fixture
def reader_of(site, clock, tmp_path):
    """Makes readers of the same agent: processes that come one after the other, or stand side by side."""
    made = []

    def make(vsphere, agent_vm="agent-vm"):
        made.append(HotAddReader(vsphere, agent_vm, tmp_path / "state", clock, device_dir=site.device_dir))
        return made[-1]

    yield make
    for reader in made:
        reader.close()


@pytest.fixture
def taken(vsphere):
    machine = vsphere.vm("web01")
    vsphere.enable_tracking(machine.moref)
    return vsphere.create_snapshot(machine.moref, "s", "", quiesce=False)


def attached(vsphere):
    return [one for one in vsphere.vm("agent-vm").disks if one.independent]


def journals(tmp_path):
    folder = tmp_path / "state" / "hotadd"
    return list(folder.iterdir()) if folder.exists() else []


def test_it_reads_what_was_frozen_and_detaches(vsphere, site, taken, reader_of, tmp_path):
    moref = vsphere.vm("web01").moref
    site.write(moref, 2000, 4096, b"later")
    reader = reader_of(vsphere)
    with reader.open(taken, taken.disks[0]) as opened:
        assert len(attached(vsphere)) == 1
        buffer = bytearray(8192)
        opened.read_into(0, memoryview(buffer))
        assert not any(buffer)
    assert attached(vsphere) == []
    reader.close()
    assert journals(tmp_path) == []


def test_disks_are_open_side_by_side(vsphere, site, taken, reader_of):
    reader = reader_of(vsphere)
    with reader.open(taken, taken.disks[0]), reader.open(taken, taken.disks[1]) as second:
        assert len({(one.bus, one.unit) for one in attached(vsphere)}) == 2
        second.read_into(3 << 16, memoryview(bytearray(512)))
    assert attached(vsphere) == []


def test_many_threads_each_get_their_own_disk(vsphere, site, reader_of):
    machine = site.add_vm("many", [(number + 1) << 16 for number in range(8)], encrypted=True)
    for number in range(8):
        site.write(machine.moref, 2000 + number, 0, bytes([number + 1]) * 512)
    taken = vsphere.create_snapshot(machine.moref, "s", "", quiesce=False)
    reader = reader_of(vsphere)
    read = {}

    def one(info):
        for _ in range(5):
            with reader.open(taken, info) as opened:
                buffer = bytearray(512)
                opened.read_into(0, memoryview(buffer))
                read.setdefault(info.key, set()).add(bytes(buffer))

    threads = [threading.Thread(target=one, args=(info,)) for info in taken.disks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == {2000 + number: {bytes([number + 1]) * 512} for number in range(8)}
    assert attached(vsphere) == []


def test_a_refused_attach_leaves_nothing(faulty, vsphere, taken, reader_of, tmp_path):
    faulty.fail("attach_disk", lambda: BusyError("locked", subject="disk", next_step="wait"))
    reader = reader_of(faulty)
    with pytest.raises(BusyError) as caught:
        reader.open(taken, taken.disks[0])
    assert not hasattr(caught.value, "__notes__")
    reader.close()
    assert journals(tmp_path) == []


@pytest.mark.parametrize("error", [gone, KeyboardInterrupt])
def test_an_attach_without_an_answer_is_looked_for_and_undone(faulty, vsphere, taken, reader_of, error):
    faulty.fail("attach_disk", error, after=True)
    with pytest.raises((SourceUnavailableError, KeyboardInterrupt)):
        reader_of(faulty).open(taken, taken.disks[0])
    assert attached(vsphere) == []


def test_a_device_that_never_shows_is_detached_again(vsphere, site, taken, tmp_path, clock):
    reader = HotAddReader(vsphere, "agent-vm", tmp_path / "state", clock, device_dir=tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="does not show"):
        reader.open(taken, taken.disks[0])
    assert attached(vsphere) == []
    reader.close()
    assert journals(tmp_path) == []


def test_a_disk_that_cannot_be_given_back_is_noted_and_found_later(faulty, vsphere, taken, reader_of):
    faulty.fail("attach_disk", gone, after=True)
    faulty.fail("vm", gone, nth=2, count=math.inf)
    first = reader_of(faulty)
    with pytest.raises(SourceUnavailableError) as caught:
        first.open(taken, taken.disks[0])
    assert "may still be attached" in caught.value.__notes__[0]
    assert len(attached(vsphere)) == 1
    first.close()
    assert reader_of(vsphere).release_leftovers() == 1
    assert attached(vsphere) == []


def test_a_detach_that_fails_is_raised_and_made_good_at_the_next_start(faulty, vsphere, taken, reader_of, tmp_path):
    faulty.fail("detach_disk", gone)
    first = reader_of(faulty)
    with pytest.raises(SourceUnavailableError), first.open(taken, taken.disks[0]):
        pass
    first.close()
    second = reader_of(vsphere)
    assert second.release_leftovers() == 1
    assert second.release_leftovers() == 0
    assert attached(vsphere) == []
    assert journals(tmp_path) == []


def test_a_living_process_keeps_its_disks(vsphere, taken, reader_of):
    dead, living, third = reader_of(vsphere), reader_of(vsphere), reader_of(vsphere)
    dead.open(taken, taken.disks[0])
    dead.close()
    with living.open(taken, taken.disks[1]) as opened:
        assert third.release_leftovers() == 1
        assert [one.uuid for one in attached(vsphere)] == [taken.disks[1].uuid]
        opened.read_into(0, memoryview(bytearray(512)))
    assert attached(vsphere) == []


def test_a_living_process_with_the_same_disk_keeps_it(vsphere, taken, reader_of):
    dead, living, third = reader_of(vsphere), reader_of(vsphere), reader_of(vsphere)
    dead.open(taken, taken.disks[0])
    dead.close()
    with living.open(taken, taken.disks[0]):
        assert third.release_leftovers() == 1
        assert len(attached(vsphere)) == 1
    assert attached(vsphere) == []


def test_a_disk_that_a_living_process_is_about_to_attach_is_left_for_later(vsphere, taken, reader_of):
    dead, living, third = reader_of(vsphere), reader_of(vsphere), reader_of(vsphere)
    dead.open(taken, taken.disks[0])
    dead.close()
    entry = living._journal.intend(vsphere.vm("agent-vm").moref, taken.disks[0].backing_path, taken.disks[0].uuid)
    assert third.release_leftovers() == 0
    living._journal.detached(entry)
    assert third.release_leftovers() == 1


def test_leftovers_of_a_vanished_agent_vm_went_with_it(vsphere, site, taken, reader_of, tmp_path):
    dead = reader_of(vsphere)
    dead.open(taken, taken.disks[0])
    dead.close()
    del site.machines[vsphere.vm("agent-vm").moref]
    assert reader_of(vsphere).release_leftovers() == 0
    assert journals(tmp_path) == []


def test_leftovers_wait_for_a_vcenter(faulty, vsphere, taken, reader_of, tmp_path):
    dead = reader_of(vsphere)
    dead.open(taken, taken.disks[0])
    dead.close()
    reader = reader_of(faulty)
    faulty.fail("detach_disk", gone)
    with pytest.raises(SourceUnavailableError):
        reader.release_leftovers()
    assert len(journals(tmp_path)) == 1
    assert reader.release_leftovers() == 1


def test_an_unknown_agent_vm_names_the_setting(vsphere, taken, reader_of):
    with pytest.raises(NotFoundError, match="'nobody'") as caught:
        reader_of(vsphere, agent_vm="nobody").open(taken, taken.disks[0])
    assert "agent_vm" in caught.value.next_step


def test_which_disks_are_ours():
    wanted = Attachment(1, "vm-1", "[ds] w.vmdk", "u-1", None)
    machine = vm(
        disks=(
            disk(key=1, independent=True, backing_path="[ds] w.vmdk", uuid="u-9"),
            disk(key=2, independent=True, backing_path="[ds] a-REDO.vmdk", uuid="u-1"),
            disk(key=3, independent=False, backing_path="[ds] w.vmdk", uuid="u-1"),
            disk(key=4, independent=True, backing_path="[ds] other.vmdk", uuid="u-2"),
            disk(key=5, independent=True, backing_path="[ds] other.vmdk", uuid=""),
        )
    )
    assert ours(machine, wanted) == [1, 2]
    assert ours(machine, Attachment(1, "vm-1", "[ds] none.vmdk", "", None)) == []

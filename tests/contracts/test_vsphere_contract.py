"""What every driver of the vSphere port does, in memory as against a vCenter."""

from datetime import timedelta

import pytest

from common.errors import BusyError, ChangeTrackingError, NotFoundError, SourceError
from common.extent import Extent, normalise
from source_agent.privileges import NEEDS, wanted
from source_agent.trust import run_of
from source_agent.vsphere.changed_extents import changed_extents
from source_agent.vsphere.port import Backing, KeyProvider, Place
from tests.contracts.vsphere_worlds import AGENT_VM, PLAIN, WEB


@pytest.fixture
def vsphere(world):
    return world.vsphere


@pytest.fixture
def take(vsphere):
    """Takes snapshots of a tracked VM under names of their own."""
    taken = []

    def snapshot(name=WEB):
        machine = vsphere.vm(name)
        if not machine.tracking_enabled:
            vsphere.enable_tracking(machine.moref)
        taken.append(vsphere.create_snapshot(machine.moref, f"ours-{len(taken)}", "d", quiesce=False))
        return taken[-1]

    return snapshot


def moref(vsphere, name=WEB):
    return vsphere.vm(name).moref


def test_vms_come_by_name_with_their_disks(vsphere):
    found = {vm.name: vm for vm in vsphere.vms()}
    assert list(found) == sorted(found)
    assert {WEB, PLAIN, AGENT_VM} <= set(found)
    web = found[WEB]
    assert [disk.key for disk in web.disks] == [2000, 2001]
    assert web.disks[1].capacity_bytes == (24 << 20) + 5 * 512
    assert {disk.backing for disk in web.disks} == {Backing.FILE}
    assert len({disk.uuid for disk in web.disks} | {disk.backing_path for disk in web.disks}) == 4
    assert all(disk.label and disk.backing_path.startswith("[") for disk in web.disks)
    assert (web.template, web.powered_on, web.tracking_supported) == (False, True, True)
    assert web.hardware_version >= 7
    assert web.host_version
    assert web.host_build > 0


def test_the_clock_is_in_utc(vsphere):
    assert vsphere.now().utcoffset() == timedelta()


def test_encryption_is_told_of_vm_and_disk_and_no_more(vsphere):
    web, plain = vsphere.vm(WEB), vsphere.vm(PLAIN)
    assert web.encrypted
    assert all(disk.encrypted for disk in web.disks)
    assert not plain.encrypted
    assert not any(disk.encrypted for disk in plain.disks)


def test_a_vm_is_found_by_name_moref_and_uuid(vsphere):
    web = vsphere.vm(WEB)
    assert vsphere.vm(web.moref) == web
    assert vsphere.vm(web.instance_uuid) == web
    assert vsphere.vm(web.instance_uuid.upper()) == web


@pytest.mark.parametrize("name", ["nobody", "vm-999999", "00000000-0000-0000-0000-000000000000", ""])
def test_an_unknown_vm_is_not_found(vsphere, name):
    with pytest.raises(NotFoundError):
        vsphere.vm(name)


def test_tracking_is_on_when_it_was_switched_on(vsphere):
    vsphere.enable_tracking(moref(vsphere))
    assert vsphere.vm(WEB).tracking_enabled
    vsphere.enable_tracking(moref(vsphere))


def test_a_snapshot_freezes_the_base_and_the_vm_goes_on_in_a_delta(vsphere, take):
    before = vsphere.vm(WEB)
    made = take()
    assert [disk.backing_path for disk in made.disks] == [disk.backing_path for disk in before.disks]
    assert [disk.uuid for disk in made.disks] == [disk.uuid for disk in before.disks]
    assert all(disk.change_id for disk in made.disks)
    assert len({run_of(disk.change_id) for disk in made.disks}) == 2
    during = vsphere.vm(WEB)
    (found,) = during.snapshots
    assert (found.moref, found.name, found.description) == (made.moref, made.name, "d")
    assert found.created == made.created
    assert made.created.tzinfo is not None
    assert not {disk.backing_path for disk in during.disks} & {disk.backing_path for disk in before.disks}
    vsphere.remove_snapshot(before.moref, made.moref)
    after = vsphere.vm(WEB)
    assert after.snapshots == ()
    assert [disk.backing_path for disk in after.disks] == [disk.backing_path for disk in before.disks]
    assert not after.consolidation_needed


def test_a_snapshot_tells_what_the_vm_is_besides_its_disks(world, vsphere, take):
    told = take().configuration
    world.cpus(WEB, 4)
    later = take().configuration
    world.cpus(WEB, 2)

    assert (told.cpus, later.cpus) == (2, 4)
    assert (told.guest_id, told.firmware, told.secure_boot) == ("debian12_64Guest", "efi", True)
    assert (told.memory_mib, told.vtpm) == (2048, False)
    assert [(one.kind, one.bus) for one in told.controllers if one.kind.startswith("Para")] == [
        ("ParaVirtualSCSIController", 0)
    ]
    assert [(disk.key, disk.controller) for disk in told.disks] == [(2000, 1000), (2001, 1000)]
    (nic,) = told.nics
    assert (nic.kind, nic.network, nic.network_kind, nic.connected) == (
        "VirtualVmxnet3",
        "VM Network",
        "standard",
        True,
    )
    assert nic.mac.startswith("00:50:56:")
    assert [(one.kind, one.key) for one in told.boot_order] == [("disk", 2000), ("ethernet", nic.key)]
    assert told.hardware_version >= 7


def test_a_quiesced_snapshot_says_so(vsphere):
    web = moref(vsphere)
    plain, flushed = (vsphere.create_snapshot(web, f"q-{quiesce}", "", quiesce=quiesce) for quiesce in (False, True))
    assert (plain.quiesced, plain.consistency) == (False, "crash")
    assert (flushed.quiesced, flushed.consistency) == (True, "file-system")
    for made in (flushed, plain):
        assert vsphere.remove_snapshot(web, made.moref) is True


def test_what_is_written_over_a_snapshot_takes_room(world, vsphere, take):
    assert vsphere.snapshot_bytes(moref(vsphere)) == 0
    made = take()
    before = vsphere.snapshot_bytes(moref(vsphere))
    world.write(WEB, 2000, 0, b"x" * (2 << 20))
    world.write(WEB, 2001, 0, b"x" * (1 << 20))
    assert vsphere.snapshot_bytes(moref(vsphere)) >= before + (3 << 20)
    vsphere.remove_snapshot(moref(vsphere), made.moref)
    assert vsphere.snapshot_bytes(moref(vsphere)) == 0


def test_a_missing_snapshot_is_removed_already(vsphere, take):
    made = take()
    for _ in range(2):
        vsphere.remove_snapshot(moref(vsphere), made.moref)
    assert vsphere.vm(WEB).snapshots == ()


def test_removing_one_leaves_the_others(world, vsphere, take):
    world.foreign_snapshot(WEB, "before the upgrade")
    made = take()
    world.foreign_snapshot(WEB, "after the upgrade")
    assert [one.name for one in vsphere.vm(WEB).snapshots] == ["before the upgrade", made.name, "after the upgrade"]
    vsphere.remove_snapshot(moref(vsphere), made.moref)
    assert [one.name for one in vsphere.vm(WEB).snapshots] == ["before the upgrade", "after the upgrade"]


def test_a_snapshot_of_an_unknown_vm_is_not_found(vsphere):
    with pytest.raises(NotFoundError):
        vsphere.create_snapshot("vm-999999", "n", "", quiesce=False)


def test_nothing_changed_is_an_answer_for_the_whole_disk(vsphere, take):
    first = take()
    vsphere.remove_snapshot(moref(vsphere), first.moref)
    second = take()
    for old, new in zip(first.disks, second.disks, strict=True):
        page = vsphere.changed_page(moref(vsphere), second.moref, new.key, old.change_id, 0)
        assert (page.offset, page.length, page.areas) == (0, new.capacity_bytes, ())


def test_many_changes_come_in_pages_and_all_of_them(world, vsphere, take):
    world.tracking_unit(512)
    first = take()
    vsphere.remove_snapshot(moref(vsphere), first.moref)
    written = [Extent(offset, 512) for offset in range(0, 5000 * 1536, 1536)]
    for extent in written:
        world.write(WEB, 2000, extent.offset, b"x" * extent.length)
    capacity = first.disks[1].capacity_bytes
    world.write(WEB, 2001, capacity - 1, b"x")
    second = take()
    page = vsphere.changed_page(moref(vsphere), second.moref, 2000, first.disks[0].change_id, 0)
    assert (page.offset, len(page.areas)) == (0, 2000)
    assert page.length < second.disks[0].capacity_bytes
    found = changed_extents(vsphere, moref(vsphere), second, second.disks[0], first.disks[0].change_id)
    assert found == tuple(written)
    found = changed_extents(vsphere, moref(vsphere), second, second.disks[1], first.disks[1].change_id)
    assert found == (Extent(capacity - 512, 512),)


def test_only_changes_between_the_id_and_the_snapshot_count(world, vsphere, take):
    first = take()
    vsphere.remove_snapshot(moref(vsphere), first.moref)
    world.write(WEB, 2000, 0, b"one")
    second = take()
    world.write(WEB, 2000, 5 << 16, b"two")

    def since(made, snapshot):
        return changed_extents(vsphere, moref(vsphere), snapshot, snapshot.disks[0], made.disks[0].change_id)

    assert since(first, second) == (Extent(0, 65536),)
    vsphere.remove_snapshot(moref(vsphere), second.moref)
    world.write(WEB, 2000, 7 << 16, b"three")
    third = take()
    assert since(second, third) == normalise([Extent(5 << 16, 65536), Extent(7 << 16, 65536)])
    assert since(first, third) == normalise([Extent(0, 65536), Extent(5 << 16, 65536), Extent(7 << 16, 65536)])


def test_after_a_reset_the_old_id_is_worth_nothing(world, vsphere, take):
    first = take()
    vsphere.remove_snapshot(moref(vsphere), first.moref)
    world.reset_tracking(WEB)
    second = take()
    old, new = first.disks[0].change_id, second.disks[0].change_id
    assert run_of(old) != run_of(new)
    with pytest.raises(ChangeTrackingError):
        vsphere.changed_page(moref(vsphere), second.moref, 2000, old, 0)


def test_the_running_vm_shows_the_run_that_the_next_snapshot_belongs_to(world, vsphere, take):
    taken = take(WEB)
    for live, frozen in zip(vsphere.vm(WEB).disks, taken.disks, strict=True):
        assert run_of(live.change_id) == run_of(frozen.change_id)
    world.reset_tracking(WEB)
    for live, frozen in zip(vsphere.vm(WEB).disks, taken.disks, strict=True):
        assert run_of(live.change_id) not in {"", run_of(frozen.change_id)}


def test_a_revert_brings_back_what_was_frozen_and_stands_in_the_history(world, vsphere, take):
    moref = vsphere.vm(WEB).moref
    take(WEB)
    before = world.image(WEB, 2000)
    taken = vsphere.vm(WEB).snapshots[-1].created
    world.write(WEB, 2000, 0, b"written after the snapshot")
    assert not vsphere.past_since(moref, taken).reverted
    world.revert(WEB)
    assert world.image(WEB, 2000) == before
    assert vsphere.past_since(moref, taken).reverted
    assert not vsphere.past_since(moref, taken + timedelta(days=1)).reverted
    assert not vsphere.past_since(vsphere.vm(PLAIN).moref, taken).reverted


@pytest.mark.parametrize("offset", [8 << 20, (8 << 20) + 512])
def test_asking_at_the_capacity_is_a_fault(vsphere, take, offset):
    first = take()
    vsphere.remove_snapshot(moref(vsphere), first.moref)
    second = take()
    with pytest.raises(ChangeTrackingError):
        vsphere.changed_page(moref(vsphere), second.moref, 2000, first.disks[0].change_id, offset)


def test_changes_of_a_snapshot_that_is_gone(vsphere, take):
    made = take()
    vsphere.remove_snapshot(moref(vsphere), made.moref)
    with pytest.raises(NotFoundError):
        vsphere.changed_page(moref(vsphere), made.moref, 2000, made.disks[0].change_id, 0)


def test_attached_disks_show_what_was_frozen_at_addresses_of_their_own(world, vsphere, take):
    frozen = {key: world.image(WEB, key) for key in (2000, 2001)}
    made = take()
    world.write(WEB, 2001, 4096, b"written after the snapshot")
    own = {(disk.bus, disk.unit) for disk in vsphere.vm(AGENT_VM).disks}
    agent = moref(vsphere, AGENT_VM)
    attached = {disk.key: vsphere.attach_disk(agent, disk) for disk in made.disks}
    addresses = {(one.bus, one.unit) for one in attached.values()}
    assert len(addresses | own) == len(own) + 2
    assert all(unit != 7 for _, unit in addresses)
    for disk in made.disks:
        one = attached[disk.key]
        shown = (world.devices / f"scsi-{one.bus}:{one.unit}").read_bytes()
        assert shown == frozen[disk.key]
        described = next(found for found in vsphere.vm(AGENT_VM).disks if found.key == one.key)
        assert described.independent
        assert (described.uuid, described.backing_path) == (disk.uuid, disk.backing_path)
    for one in attached.values():
        vsphere.detach_disk(agent, one.key)
        vsphere.detach_disk(agent, one.key)
    assert {(disk.bus, disk.unit) for disk in vsphere.vm(AGENT_VM).disks} == own
    vsphere.remove_snapshot(moref(vsphere), made.moref)
    assert world.image(WEB, 2001)[4096:4122] == b"written after the snapshot"


def test_a_running_vms_live_disk_is_locked(vsphere, take):
    take()
    live = vsphere.vm(WEB).disks[0]
    with pytest.raises(BusyError):
        vsphere.attach_disk(moref(vsphere, AGENT_VM), live)
    assert all(not disk.independent for disk in vsphere.vm(AGENT_VM).disks)


def test_an_encrypted_disk_needs_an_encrypted_agent(vsphere, take):
    made = take()
    with pytest.raises(SourceError):
        vsphere.attach_disk(moref(vsphere, PLAIN), made.disks[0])


def test_a_disk_that_was_not_hot_added_stays(vsphere):
    own = vsphere.vm(AGENT_VM).disks[0]
    with pytest.raises(SourceError):
        vsphere.detach_disk(moref(vsphere, AGENT_VM), own.key)
    assert own.key in {disk.key for disk in vsphere.vm(AGENT_VM).disks}


def test_what_stands_around_a_vm(world, vsphere):
    web, plain = (vsphere.surroundings(moref(vsphere, name)) for name in (WEB, PLAIN))
    assert web.host
    assert (web.vsan_datastores, web.relocation_disabled) == ((), False)
    assert web.key_provider is KeyProvider.STANDARD
    assert plain.key_provider is KeyProvider.NONE
    world.lock_out(WEB, on=True)
    assert vsphere.surroundings(moref(vsphere)).relocation_disabled
    world.lock_out(WEB, on=False)
    assert vsphere.surroundings(moref(vsphere)) == web
    with pytest.raises(NotFoundError):
        vsphere.surroundings("vm-999999")


def test_what_encrypts_a_vm_by_name(vsphere):
    web, plain = (vsphere.key_names(moref(vsphere, name)) for name in (WEB, PLAIN))
    assert len(web.key_ids) == 1
    assert web.providers
    assert plain.key_ids == ()
    assert all(text not in repr(web) for text in (*web.key_ids, *web.providers))
    with pytest.raises(NotFoundError):
        vsphere.key_names("vm-999999")


def lacking(vsphere, wanted, agent=AGENT_VM):
    return vsphere.lacking(moref(vsphere), moref(vsphere, agent) if agent else "", wanted)


def test_a_login_with_every_privilege_lacks_none(vsphere):
    assert lacking(vsphere, wanted(NEEDS)) == ()


@pytest.mark.parametrize(
    "need",
    [need for need in NEEDS if not need.privilege.startswith("System.")],
    ids=lambda need: f"{need.privilege}-{need.place.value}-{need.purpose}",
)
def test_what_a_login_lacks_is_told_with_the_object(world, vsphere, need):
    world.deny(need.privilege)
    (found,) = lacking(vsphere, wanted(NEEDS))
    assert (found.privilege, found.place) == (need.privilege, need.place)
    named = {Place.VM: f"VM {WEB}", Place.AGENT_VM: f"VM {AGENT_VM}", Place.ROOT: "the vCenter's root folder"}
    assert found.entity.startswith(named.get(need.place, need.place.value))
    world.deny()
    assert lacking(vsphere, wanted(NEEDS)) == ()


def test_only_what_was_asked_for_is_told(world, vsphere):
    world.deny("VirtualMachine.State.CreateSnapshot", "VirtualMachine.Config.AddExistingDisk")
    assert lacking(vsphere, {Place.VM: frozenset({"VirtualMachine.State.RemoveSnapshot"})}) == ()
    assert lacking(vsphere, {Place.AGENT_VM: frozenset({"VirtualMachine.Config.AddExistingDisk"})}, agent="") == ()


def test_a_role_is_made_once_and_then_kept_in_step(vsphere):
    name, first, second = "agent-role", "Datastore.Browse", "VirtualMachine.State.CreateSnapshot"
    made = vsphere.put_role(name, frozenset({first, second}))
    assert (made.created, made.added, made.removed, made.unknown) == (True, (first, second), (), ())
    again = vsphere.put_role(name, frozenset({first, second}))
    assert (again.created, again.added, again.removed) == (False, (), ())
    changed = vsphere.put_role(name, frozenset({first, "Cryptographer.Access"}))
    assert (changed.created, changed.added, changed.removed) == (False, ("Cryptographer.Access",), (second,))


def test_closing_twice_is_harmless(vsphere):
    vsphere.close()
    vsphere.close()


def test_placements_say_where_vms_are(vsphere):
    found = {one.name: one for one in vsphere.placements()}
    assert list(found) == sorted(found)
    described = {vm.name: vm for vm in vsphere.vms()}
    assert found.keys() == described.keys()
    for name, one in found.items():
        assert (one.moref, one.instance_uuid) == (described[name].moref, described[name].instance_uuid)
    web = found[WEB]
    assert not web.template
    assert web.host
    assert {path.partition("]")[0][1:] for path in (disk.backing_path for disk in described[WEB].disks)} <= set(
        web.datastores
    )
    assert web.folder.startswith("/")
    assert web.folder.endswith("/vm")
    assert web.attributes == {}

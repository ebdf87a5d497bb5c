"""The vCenter checks who comes in, and tracks changes as a real one does."""

import gc
import http.client
import random
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
from pyVim.connect import SmartConnect
from pyVmomi import vim as vmodl_vim
from pyVmomi import vmodl

from tests.lab.errors import ControlError
from tests.lab.pki import Authority
from tests.lab.site import Lab
from tests.lab.vim import Vim, change_ids, changed, connected, disks, wait


# pyVmomi leaves the connection of a refused login to the garbage collector, which must not happen in another test.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_wrong_password_is_refused(lab: Lab):
    context = ssl.create_default_context(cafile=str(lab.vcenter.ca_file))
    login = {"host": lab.vcenter.host, "port": lab.vcenter.port, "sslContext": context}
    with pytest.raises(vmodl_vim.fault.InvalidLogin):
        SmartConnect(**login, user=lab.vcenter.user, pwd="wrong")
    with pytest.raises(vmodl_vim.fault.InvalidLogin):
        SmartConnect(**login, user="root", pwd=lab.vcenter.password)
    gc.collect()


def test_its_certificate_is_of_the_labs_own_authority(lab: Lab, tmp_path: Path):
    Authority("another", tmp_path / "other.crt")
    for names, trusted in (("localhost", True), ("127.0.0.1", True), ("vcenter.example", False)):
        context = ssl.create_default_context(cafile=str(lab.vcenter.ca_file))
        assert _shakes(lab, context, names) is trusted
    assert not _shakes(lab, ssl.create_default_context(cafile=str(tmp_path / "other.crt")), "localhost")


def _shakes(lab: Lab, context: ssl.SSLContext, name: str) -> bool:
    with socket.create_connection((lab.vcenter.host, lab.vcenter.port), 5) as raw:
        try:
            context.wrap_socket(raw, server_hostname=name).close()
        except ssl.SSLCertVerificationError:
            return False
        return True


def test_inventory_shows_what_the_rules_need(lab: Lab, vim: Vim):
    assert vim.content.about.apiVersion == "8.0.3.0"
    web, plain = vim.vm("web01"), vim.vm("plain01")
    key = web.config.keyId
    assert key.providerId.id == "source-site-kms"
    assert lab.source_kms.state(key.keyId) == "active"
    assert [disk.backing.keyId.keyId for disk in disks(web)] == [key.keyId, key.keyId]
    assert [(disk.key, disk.capacityInBytes) for disk in disks(web)] == [(2000, 8 << 20), (2001, (24 << 20) + 2560)]
    assert plain.config.keyId is None
    assert plain.runtime.powerState == "poweredOn"
    assert plain.summary.runtime.faultToleranceState == "notConfigured"
    assert web.capability.changeTrackingSupported
    legacy = vim.vm("legacy01")
    assert (legacy.capability.changeTrackingSupported, legacy.config.version) == (False, "vmx-04")
    assert disks(vim.vm("rdm01"))[1].backing.compatibilityMode == "physicalMode"
    assert disks(vim.vm("indep01"))[1].backing.diskMode == "independent_persistent"
    snapped = vim.vm("snapped01")
    assert not snapped.config.changeTrackingEnabled
    assert [tree.name for tree in snapped.snapshot.rootSnapshotList] == ["before the upgrade"]
    everything = [vim.vm(machine.name).config.instanceUuid for machine in lab.machines]
    assert len(set(everything)) == len(everything)


def test_change_ids_come_with_the_first_snapshot_after_tracking_was_enabled(vim: Vim):
    vm = vim.vm("plain01")
    vm_was_tracked = vm.config.changeTrackingEnabled
    if not vm_was_tracked:
        before = vim.snapshot(vm)
        assert change_ids(before) == {2000: None}
        vim.remove(before)
    vim.track(vm)
    after = vim.snapshot(vm)
    run, number = change_ids(after)[2000].split("/")
    assert len(bytes.fromhex(run.replace("-", " "))) == 16
    assert int(number) > 0
    assert disks(vm)[0].backing.changeId.split("/")[0] == run


def test_what_administrators_do_between_two_syncs(lab: Lab, vim: Vim):
    vm, disk = vim.vm("web01"), lab.guest("web01", 2000)
    vim.track(vm)
    snapshot = vim.snapshot(vm)
    before = disk.read(0, 4096)
    disk.write(0, b"n" * 4096)
    lab.control("revert", "web01")
    assert disk.read(0, 4096) == before
    disk.write(4096, b"m")  # the guest goes on in the new delta
    vim.remove(snapshot)
    assert disk.read(0, 4097) == before + b"m"

    shown = disks(vm)[0].backing
    lab.control("relocate", "web01", 2000)
    moved = disks(vm)[0].backing
    assert (moved.fileName != shown.fileName, moved.uuid) == (True, shown.uuid)

    lab.control("replace", "web01", 2000)
    other = disks(vm)[0].backing
    assert (other.fileName, other.uuid != moved.uuid) == (moved.fileName, True)
    assert other.changeId.split("/")[0] != moved.changeId.split("/")[0]

    lab.control("relocate", "web01", 2000)
    assert disks(vm)[0].backing.fileName == shown.fileName

    lab.control("untrack", "web01", 2000, "on")
    bare = vim.snapshot(vm)
    assert [key for key, found in change_ids(bare).items() if found is None] == [2000]
    vim.remove(bare)
    lab.control("untrack", "web01", 2000, "off")

    product = vm.runtime.host.config.product
    lab.control("host", "6.0.0", 2494585)
    assert (vm.runtime.host.config.product.version, vm.runtime.host.config.product.build) == ("6.0.0", "2494585")
    lab.control("host", product.version, product.build)


def test_areas_hold_every_write_between_two_snapshots_and_nothing_else(lab: Lab, vim: Vim):
    vm, disk = vim.vm("web01"), lab.guest("web01", 2001)
    vim.track(vm)
    first = vim.snapshot(vm)
    base = change_ids(first)
    disk.write(70_000, b"x" * 10)
    vim.remove(first)
    disk.write(disk.size - 1, b"e")
    second = vim.snapshot(vm)
    disk.write(10 << 20, b"too late for the second")
    assert changed(vm, second, 2001, base[2001]) == ([(65536, 65536), (24 << 20, 2560)], 1)
    assert changed(vm, second, 2000, base[2000]) == ([], 1)
    vim.remove(second)
    third = vim.snapshot(vm)
    assert changed(vm, third, 2001, change_ids(third)[2001]) == ([], 1)
    assert (10 << 20, 65536) in changed(vm, third, 2001, base[2001])[0]


def test_more_than_2000_areas_come_in_pages(lab: Lab, vim: Vim):
    lab.control("tracking-unit", 512)
    vm, disk = vim.vm("web01"), lab.guest("web01", 2000)
    vim.track(vm)
    first = vim.snapshot(vm)
    written = [(n * 1536, 512) for n in range(4321)]
    for offset, length in random.Random(1).sample(written, len(written)):
        disk.write(offset, b"\xff" * length)
    base = change_ids(first)[2000]
    vim.remove(first)
    second = vim.snapshot(vm)
    page = vm.QueryChangedDiskAreas(second, 2000, 0, base)
    assert len(page.changedArea) == 2000
    assert page.length == page.changedArea[-1].start + page.changedArea[-1].length
    assert changed(vm, second, 2000, base) == (written, 3)


def test_ids_that_cannot_be_trusted_are_refused(lab: Lab, vim: Vim):
    vm = vim.vm("web01")
    vim.track(vm)
    snapshot = vim.snapshot(vm)
    good = change_ids(snapshot)[2000]
    run = good.split("/")[0]
    for unknown in (f"{run}/99999", "00 " * 7 + "00-" + "00 " * 7 + "00/1"):
        with pytest.raises(vmodl_vim.fault.FileFault) as refused:
            vm.QueryChangedDiskAreas(snapshot, 2000, 0, unknown)
        assert refused.value.file.endswith("web01-ctk.vmdk")
    with pytest.raises(vmodl.fault.InvalidArgument):
        vm.QueryChangedDiskAreas(snapshot, 2000, 0, "nonsense")
    with pytest.raises(vmodl.fault.InvalidArgument) as refused:
        vm.QueryChangedDiskAreas(snapshot, 2000, 8 << 20, good)
    assert refused.value.invalidProperty == "startOffset"
    with pytest.raises(vmodl_vim.fault.NotFound):
        vm.QueryChangedDiskAreas(snapshot, 2017, 0, good)
    vim.remove(snapshot)
    with pytest.raises(vmodl.fault.ManagedObjectNotFound):
        vm.QueryChangedDiskAreas(snapshot, 2000, 0, good)


def test_a_reset_voids_ids_of_the_vm(lab: Lab, vim: Vim):
    vm = vim.vm("web01")
    vim.track(vm)
    first = vim.snapshot(vm)
    old = change_ids(first)
    vim.remove(first)
    lab.control("reset-cbt", "web01")
    second = vim.snapshot(vm)
    assert change_ids(second)[2000].split("/")[0] != old[2000].split("/")[0]
    for key in (2000, 2001):
        with pytest.raises(vmodl_vim.fault.FileFault):
            vm.QueryChangedDiskAreas(second, key, 0, old[key])


def test_files_change_names_with_snapshots(vim: Vim):
    vm = vim.vm("web01")

    def names(holder):
        return [disk.backing.fileName for disk in disks(holder)]

    base = names(vm)
    first = vim.snapshot(vm)
    assert names(first) == base
    assert all("-0000" in name for name in names(vm))
    assert [disk.backing.parent.fileName for disk in disks(vm)] == base
    second = vim.snapshot(vm)
    middle = names(second)
    assert all("-0000" in name for name in middle)
    vim.remove(first)
    assert names(second) == base
    vim.remove(second)
    assert names(vm) == base
    assert vm.runtime.consolidationNeeded is False


def test_a_disk_grows_only_without_snapshots(lab: Lab, vim: Vim):
    vm = vim.vm("plain01")
    snapshot = vim.snapshot(vm)
    with pytest.raises(ControlError, match="has snapshots"):
        lab.control("grow", "plain01", 2000, 9 << 20)
    vim.remove(snapshot)
    size = lab.guest("plain01", 2000).size
    lab.control("grow", "plain01", 2000, size + 512)
    assert disks(vm)[0].capacityInBytes == size + 512 == lab.guest("plain01", 2000).size
    with pytest.raises(ControlError, match="not a larger multiple"):
        lab.control("grow", "plain01", 2000, size)


def test_snapshots_hold_one_moment_of_all_disks_while_the_guest_writes(lab: Lab, vim: Vim, tmp_path: Path):
    """A guest that writes a counter to both disks, second disk first, is never seen with the first one ahead."""
    vm = vim.vm("web01")
    first, second = lab.guest("web01", 2000), lab.guest("web01", 2001)
    second.write(4096, bytes(8))
    first.write(4096, bytes(8))
    over = threading.Event()

    def write():
        count = 0
        while not over.is_set():
            count += 1
            second.write(4096, count.to_bytes(8))
            first.write(4096, count.to_bytes(8))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(5):
            snapshot = vim.snapshot(vm)
            folder = lab.folder / "disks" / "web01"
            seen = [_number(folder / str(key) / "base.raw") for key in (2000, 2001)]
            time.sleep(0.02)
            assert [_number(folder / str(key) / "base.raw") for key in (2000, 2001)] == seen
            assert seen[1] - seen[0] in {0, 1}
            vim.remove(snapshot)
    finally:
        over.set()
        writer.join()
    assert _number(lab.folder / "disks" / "web01" / "2000" / "base.raw") == int.from_bytes(first.read(4096, 8))


def _number(path: Path) -> int:
    with path.open("rb") as file:
        file.seek(4096)
        return int.from_bytes(file.read(8))


def test_faults_strike_tasks_calls_and_the_wire(lab: Lab, vim: Vim):
    vm = vim.vm("web01")
    lab.control("fault", "CreateSnapshot_Task", "ApplicationQuiesceFault", "--count", 1, "--skip", 1)
    vim.remove(vim.snapshot(vm))
    task = vm.CreateSnapshot_Task("x", "", memory=False, quiesce=True)
    with pytest.raises(vmodl_vim.fault.ApplicationQuiesceFault):
        wait(task)
    vim.remove(vim.snapshot(vm))
    lab.control("fault", "CreateSnapshot_Task", "NoPermission", "--count", 1, "--call")
    with pytest.raises(vmodl_vim.fault.NoPermission):
        vm.CreateSnapshot_Task("x", "", memory=False, quiesce=False)
    lab.control("fault", "CreateSnapshot_Task", "http-503", "--count", 1)
    with pytest.raises(Exception, match="503"):
        vm.CreateSnapshot_Task("x", "", memory=False, quiesce=False)
    assert lab.control("snapshots", "web01") == []
    # Carried out, but the answer never came: who sends the call again has two snapshots.
    lab.control("fault", "CreateSnapshot_Task", "drop-after", "--count", 1)
    with pytest.raises(http.client.RemoteDisconnected):
        vm.CreateSnapshot_Task("unanswered", "", memory=False, quiesce=False)
    assert [one["name"] for one in lab.control("snapshots", "web01")] == ["unanswered"]
    lab.control("fault", "CreateSnapshot_Task", "drop", "--count", 1)
    with pytest.raises(http.client.RemoteDisconnected):
        vm.CreateSnapshot_Task("never began", "", memory=False, quiesce=False)
    assert [one["name"] for one in lab.control("snapshots", "web01")] == ["unanswered"]
    with pytest.raises(ControlError, match="no fault called Nonsense"):
        lab.control("fault", "CreateSnapshot_Task", "Nonsense")


@pytest.mark.parametrize("how", ["stuck", "elsewhere", "unsorted", "outside", "beyond"])
def test_change_queries_misbehave_on_command(lab: Lab, vim: Vim, how: str):
    vm, disk = vim.vm("web01"), lab.guest("web01", 2000)
    vim.track(vm)
    first = vim.snapshot(vm)
    for offset in (0, 1 << 20, 2 << 20):
        disk.write(offset, b"x")
    since = change_ids(first)[2000]
    vim.remove(first)
    second = vim.snapshot(vm)
    lab.control("answers", how)
    page = vm.QueryChangedDiskAreas(second, 2000, 0, since)
    starts = [area.start for area in page.changedArea]
    spoiled = {
        "stuck": page.length == 0,
        "elsewhere": page.startOffset == 512,
        "unsorted": starts == [2 << 20, 1 << 20, 0],
        "outside": bool(starts) and starts[-1] >= 8 << 20,
        "beyond": page.startOffset + page.length > 8 << 20,
    }
    assert spoiled[how]


def test_it_goes_away_and_comes_back_with_everything(lab: Lab, vim: Vim):
    vm = vim.vm("web01")
    snapshot = vim.snapshot(vm, "kept")
    lab.control("vcenter", "stop")
    with pytest.raises(OSError, match="refused"), socket.create_connection((lab.vcenter.host, lab.vcenter.port), 1):
        pass
    lab.control("vcenter", "start")
    with connected(lab) as again:
        assert [tree.name for tree in again.vm("web01").snapshot.rootSnapshotList] == ["kept"]
    assert snapshot._moId in {one["moref"] for one in lab.control("snapshots", "web01")}


def test_sessions_expire_on_command(lab: Lab, vim: Vim):
    vm = vim.vm("web01")
    lab.control("expire-sessions")
    with pytest.raises(vmodl_vim.fault.NotAuthenticated):
        _ = vm.name


def test_a_vm_created_with_a_named_key_is_encrypted_with_it(lab: Lab, vim: Vim):
    crypto = vmodl_vim.encryption
    key = crypto.CryptoKeyId(keyId="key-of-mine", providerId=crypto.KeyProviderId(id="source-site-kms"))
    spec = vmodl_vim.vm.ConfigSpec(
        name="restored01",
        guestId="otherGuest",
        files=vmodl_vim.vm.FileInfo(vmPathName="[LocalDS_0]"),
        crypto=crypto.CryptoSpecEncrypt(cryptoKeyId=key),
    )
    center = vim.content.rootFolder.childEntity[0]
    vm = wait(center.vmFolder.CreateVM_Task(spec, center.hostFolder.childEntity[0].resourcePool))
    try:
        assert vm.config.keyId.keyId == "key-of-mine"
        assert vm.config.keyId.providerId.id == "source-site-kms"
    finally:
        wait(vm.Destroy_Task())
    assert lab.control("calls")["CreateVM_Task"] >= 1

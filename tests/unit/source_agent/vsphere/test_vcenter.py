"""The vCenter driver where vCenters misbehave: trust, lapsed sessions, lost answers, refusals."""

import hashlib
import ssl
import threading
from datetime import UTC, datetime

import pytest
from pyVmomi import vim

from common import errors
from common.clock import SystemClock
from common.vsphere import properties
from common.vsphere.session import Session
from source_agent.disk_read.hotadd.reader import HotAddReader
from source_agent.plan import Kind, forecast
from source_agent.preflight import Setting, check
from source_agent.vsphere.changed_extents import changed_extents
from source_agent.vsphere.connection import connect
from tests.contracts.vsphere_worlds import AGENT_VM, PLAIN, WEB, clean, in_lab, settings
from tests.fakes.clock import ManualClock
from tests.lab.fixtures import lab
from tests.lab.pki import Authority

__all__ = ["lab"]
pytestmark = pytest.mark.lab


@pytest.fixture
def world(lab):
    with in_lab(lab) as found:
        yield found


@pytest.fixture
def vsphere(world):
    return world.vsphere


@pytest.fixture
def moref(vsphere):
    return vsphere.vm(WEB).moref


def calls(lab, method):
    return lab.control("calls").get(method, 0)


def login(lab, **changes):
    return connect(settings(lab, **changes), ManualClock())


def pin(lab):
    host = (lab.vcenter.host, lab.vcenter.port)
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(host))).hexdigest()


# Trust.


def test_the_pinned_certificate_is_enough(lab):
    vsphere = login(lab, ca_file=None, certificate_sha256=pin(lab).upper())
    assert vsphere.vm(WEB).name == WEB
    vsphere.close()


def test_another_certificate_than_the_pinned_is_refused(lab):
    with pytest.raises(errors.CertificateError, match=pin(lab)):
        login(lab, ca_file=None, certificate_sha256="ab" * 32)


def test_another_authority_is_refused(lab, tmp_path):
    Authority("another", tmp_path / "other.crt")
    before = calls(lab, "Login")
    with pytest.raises(errors.CertificateError, match="certificate refused, "):
        login(lab, ca_file=tmp_path / "other.crt")
    assert calls(lab, "Login") == before


def test_a_host_name_that_the_certificate_does_not_bear_is_refused(lab):
    # 127.0.0.1 by another name: reachable, and not in the certificate.
    with pytest.raises(errors.CertificateError, match=r"127\.0\.0\.1|[Hh]ostname|IP address"):
        login(lab, host="0x7f000001")


def test_a_wrong_password_is_refused_and_not_shown(lab, tmp_path):
    (tmp_path / "password").write_text("not-the-password")
    with pytest.raises(errors.AccessDeniedError, match="InvalidLogin") as caught:
        login(lab, password_file=tmp_path / "password")
    assert "password_file" in caught.value.next_step
    assert "not-the-password" not in str(caught.value)


# Sessions and connections.


def test_a_lapsed_session_is_logged_in_again(lab, vsphere, moref):
    before = calls(lab, "Login")
    lab.control("expire-sessions")
    assert vsphere.vm(WEB).moref == moref
    assert calls(lab, "Login") == before + 1


def test_a_lapsed_session_does_not_send_a_change_twice(lab, vsphere, moref):
    before = calls(lab, "ReconfigVM_Task")
    lab.control("expire-sessions")
    vsphere.enable_tracking(moref)
    assert calls(lab, "ReconfigVM_Task") == before + 1


def test_threads_share_one_new_login(lab, vsphere):
    lab.control("expire-sessions")
    before = calls(lab, "Login")
    found = []
    threads = [threading.Thread(target=lambda: found.append(vsphere.vm(WEB).name)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [WEB] * 8
    assert calls(lab, "Login") == before + 1


def test_a_read_survives_one_lost_connection(lab, vsphere):
    lab.control("fault", "RetrievePropertiesEx", "drop", "--count", 1)
    assert vsphere.vm(WEB).name == WEB
    lab.control("fault", "RetrievePropertiesEx", "drop", "--count", 2)
    with pytest.raises(errors.SourceUnavailableError):
        vsphere.vm(WEB)


def test_a_vcenter_that_is_gone_and_comes_back(lab, vsphere, moref):
    lab.control("vcenter", "stop")
    try:
        with pytest.raises(errors.SourceUnavailableError, match="refused"):
            vsphere.vm(WEB)
        with pytest.raises(errors.SourceUnavailableError):
            vsphere.create_snapshot(moref, "n", "", quiesce=False)
    finally:
        lab.control("vcenter", "start")
    assert vsphere.vm(WEB).snapshots == ()


def test_a_slow_vcenter_is_a_timeout(lab):
    vsphere = login(lab, timeout_seconds=0.5)
    lab.control("delay", "RetrievePropertiesEx", 3)
    with pytest.raises(errors.SourceUnavailableError, match="timed out"):
        vsphere.vm(WEB)
    lab.control("clear-faults")
    vsphere.close()


def test_a_web_servers_error_page_is_unavailability(lab, vsphere):
    lab.control("fault", "RetrievePropertiesEx", "http-503")
    with pytest.raises(errors.SourceUnavailableError, match="503"):
        vsphere.vm(WEB)
    lab.control("clear-faults")


def test_closing_without_a_vcenter_is_quiet(lab):
    vsphere = login(lab)
    lab.control("vcenter", "stop")
    try:
        vsphere.close()
    finally:
        lab.control("vcenter", "start")


# Reading.


@pytest.mark.parametrize("page", [1, 2, 100])
def test_all_objects_over_all_pages(lab, page):
    session = Session(settings(lab))
    found = properties.of_all(session, "listing", vim.VirtualMachine, ("name",), page_objects=page)
    assert sorted(one.values["name"] for one in found) == sorted(machine.name for machine in lab.machines)
    session.close()


def test_what_cannot_be_protected_is_seen(vsphere):
    def rules(name):
        return {finding.rule for finding in check(vsphere.vm(name), Setting(agent_vm=vsphere.vm(AGENT_VM)))}

    assert rules(WEB) == set()
    assert rules(PLAIN) == set()
    assert {"hardware-version", "tracking-unsupported"} <= rules("legacy01")
    assert rules("rdm01") == {"physical-rdm"}
    assert rules("indep01") == {"independent-disk"}
    assert rules("snapped01") == {"snapshots-before-tracking"}
    assert rules(AGENT_VM) == {"agent-itself"}


def test_a_host_that_the_login_may_not_see_is_left_open(lab, vsphere, moref):
    assert vsphere.vm(moref).host_build > 0
    lab.control("fault", "RetrievePropertiesEx", "NoPermission", "--skip", 1, "--count", 1)
    hidden = vsphere.vm(moref)
    assert (hidden.host_version, hidden.host_build) == ("", 0)
    lab.control("clear-faults")
    lab.control("fault", "RetrievePropertiesEx", "drop", "--skip", 1, "--count", 2)
    with pytest.raises(errors.SourceUnavailableError):
        vsphere.vm(moref)


def test_consolidation_is_seen(lab, vsphere):
    lab.control("consolidation-needed", WEB, "on")
    try:
        assert vsphere.vm(WEB).consolidation_needed
    finally:
        lab.control("consolidation-needed", WEB, "off")
    assert not vsphere.vm(WEB).consolidation_needed


def test_a_live_vm_is_forecast_without_change_ids(vsphere):
    assert forecast(vsphere.vm(WEB), None, datetime.now(UTC)).kind is Kind.FULL


@pytest.fixture
def two(vsphere, moref):
    """The change ids of an earlier snapshot, and a later one."""
    vsphere.enable_tracking(moref)
    first = vsphere.create_snapshot(moref, "first", "", quiesce=False)
    vsphere.remove_snapshot(moref, first.moref)
    return first.disks[0].change_id, vsphere.create_snapshot(moref, "second", "", quiesce=False)


@pytest.mark.parametrize("how", ["stuck", "elsewhere", "unsorted", "outside", "beyond"])
def test_change_lists_that_lie_are_refused(lab, world, two, how):
    vsphere, (since, _) = world.vsphere, two
    moref = vsphere.vm(WEB).moref
    for number in range(5):
        world.write(WEB, 2000, number << 17, b"x")
    third = vsphere.create_snapshot(moref, "third", "", quiesce=False)
    lab.control("answers", how)
    with pytest.raises(errors.ChangeTrackingError):
        changed_extents(vsphere, moref, third, third.disks[0], since)
    lab.control("answers", "well")
    assert len(changed_extents(vsphere, moref, third, third.disks[0], since)) == 5


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("FileFault", errors.ChangeTrackingError),
        ("InvalidArgument", errors.ChangeTrackingError),
        ("NoPermission", errors.AccessDeniedError),
        ("SystemError", errors.SourceError),
    ],
)
def test_faults_of_change_queries(lab, vsphere, two, fault, kind):
    since, second = two
    moref = vsphere.vm(WEB).moref
    lab.control("fault", "QueryChangedDiskAreas", fault)
    with pytest.raises(kind) as caught:
        vsphere.changed_page(moref, second.moref, 2000, since, 0)
    assert type(caught.value) is kind
    lab.control("clear-faults")


# Changing: each mutation goes out once.


@pytest.mark.parametrize("call", [True, False], ids=["call", "task"])
@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("ApplicationQuiesceFault", errors.QuiesceError),
        ("FilesystemQuiesceFault", errors.QuiesceError),
        ("TooManySnapshotLevels", errors.PreconditionError),
        ("NoPermission", errors.AccessDeniedError),
        ("SystemError", errors.SourceError),
        ("InvalidPowerState", errors.PreconditionError),
    ],
)
def test_a_refused_snapshot(lab, vsphere, fault, kind, call):
    moref = vsphere.vm(WEB).moref
    lab.control("fault", "CreateSnapshot_Task", fault, *(["--call"] if call else []))
    before = calls(lab, "CreateSnapshot_Task")
    with pytest.raises(kind, match="taking the snapshot of VM") as caught:
        vsphere.create_snapshot(moref, "n", "", quiesce=True)
    assert type(caught.value) is kind
    if fault == "NoPermission":
        assert "VirtualMachine.State.CreateSnapshot" in caught.value.message
    lab.control("clear-faults")
    assert calls(lab, "CreateSnapshot_Task") == before + 1


@pytest.mark.parametrize("call", [True, False], ids=["call", "task"])
def test_a_busy_vm_is_asked_again_after_it_refused(lab, vsphere, moref, call):
    lab.control("fault", "CreateSnapshot_Task", "ResourceInUse", "--count", 2, *(["--call"] if call else []))
    before = calls(lab, "CreateSnapshot_Task")
    assert vsphere.create_snapshot(moref, "n", "", quiesce=False).name == "n"
    assert calls(lab, "CreateSnapshot_Task") == before + 3
    assert len(vsphere.vm(WEB).snapshots) == 1


def test_a_vm_that_stays_busy_is_given_up(lab, vsphere, moref):
    lab.control("fault", "CreateSnapshot_Task", "ResourceInUse")
    with pytest.raises(errors.BusyError):
        vsphere.create_snapshot(moref, "n", "", quiesce=False)
    lab.control("clear-faults")


def test_an_answer_that_got_lost_does_not_make_two_snapshots(lab, vsphere, moref):
    lab.control("fault", "CreateSnapshot_Task", "drop-after", "--count", 1)
    before = calls(lab, "CreateSnapshot_Task")
    made = vsphere.create_snapshot(moref, "once", "", quiesce=False)
    assert made.name == "once"
    assert len(made.disks) == 2
    assert calls(lab, "CreateSnapshot_Task") == before + 1
    assert [one.name for one in vsphere.vm(WEB).snapshots] == ["once"]


def test_a_request_that_got_lost_is_looked_for_and_not_sent_again(lab, vsphere, moref):
    lab.control("fault", "CreateSnapshot_Task", "drop", "--count", 1)
    before = calls(lab, "CreateSnapshot_Task")
    with pytest.raises(errors.SourceUnavailableError):
        vsphere.create_snapshot(moref, "never", "", quiesce=False)
    assert calls(lab, "CreateSnapshot_Task") <= before + 1
    assert vsphere.vm(WEB).snapshots == ()


def test_connections_lost_while_a_task_runs_do_no_harm(lab, vsphere, moref):
    lab.control("fault", "WaitForUpdatesEx", "drop", "--count", 5)
    assert vsphere.create_snapshot(moref, "n", "", quiesce=False).name == "n"


def test_a_task_that_is_never_heard_of_again_is_looked_for(lab, vsphere, moref):
    lab.control("fault", "WaitForUpdatesEx", "drop")
    assert vsphere.create_snapshot(moref, "n", "", quiesce=False).name == "n"
    lab.control("clear-faults")


def test_a_task_that_does_not_end_in_time(lab):
    vsphere = login(lab, task_seconds=0.0)
    moref = vsphere.vm(WEB).moref
    with pytest.raises(errors.SourceUnavailableError, match="did not end within 0 seconds"):
        vsphere.enable_tracking(moref)
    vsphere.close()


@pytest.mark.parametrize("fault", ["drop-after", "drop"])
def test_a_removal_without_an_answer(lab, vsphere, moref, fault):
    made = vsphere.create_snapshot(moref, "n", "", quiesce=False)
    lab.control("fault", "RemoveSnapshot_Task", fault, "--count", 1)
    if fault == "drop-after":
        vsphere.remove_snapshot(moref, made.moref)
    else:
        with pytest.raises(errors.SourceUnavailableError):
            vsphere.remove_snapshot(moref, made.moref)
        vsphere.remove_snapshot(moref, made.moref)
    assert vsphere.vm(WEB).snapshots == ()


def test_consolidation_follows_where_it_is_needed(lab, vsphere, moref):
    """A disk that is still attached keeps a host from merging the snapshot's files."""
    made = vsphere.create_snapshot(moref, "n", "", quiesce=False)
    agent = vsphere.vm(AGENT_VM).moref
    attached = vsphere.attach_disk(agent, made.disks[0])
    before = calls(lab, "ConsolidateVMDisks_Task")
    assert vsphere.remove_snapshot(moref, made.moref) is False
    assert calls(lab, "ConsolidateVMDisks_Task") == before + 1
    assert vsphere.vm(WEB).consolidation_needed
    assert {one.rule for one in check(vsphere.vm(WEB), Setting())} == {"consolidation-needed"}
    vsphere.detach_disk(agent, attached.key)
    vsphere.remove_snapshot(moref, made.moref)
    assert not vsphere.vm(WEB).consolidation_needed


@pytest.mark.parametrize("fault", ["drop-after", "drop", "FileLocked", "NoPermission"])
def test_a_consolidation_that_fails_is_tried_once_and_told(lab, vsphere, moref, fault):
    made = vsphere.create_snapshot(moref, "n", "", quiesce=False)
    agent = vsphere.vm(AGENT_VM).moref
    attached = vsphere.attach_disk(agent, made.disks[0])
    lab.control("fault", "ConsolidateVMDisks_Task", fault, "--count", 1, "--call")
    before = calls(lab, "ConsolidateVMDisks_Task")
    assert vsphere.remove_snapshot(moref, made.moref) is False
    assert calls(lab, "ConsolidateVMDisks_Task") <= before + 1
    assert vsphere.vm(WEB).snapshots == ()
    vsphere.detach_disk(agent, attached.key)
    assert vsphere.remove_snapshot(moref, made.moref) is True


def test_a_guest_without_tools_is_not_quiesced(lab, vsphere, moref):
    lab.control("tools", WEB, "--off")
    try:
        assert not vsphere.create_snapshot(moref, "n", "", quiesce=True).quiesced
    finally:
        lab.control("tools", WEB)


@pytest.fixture
def frozen(vsphere, moref):
    return vsphere.create_snapshot(moref, "frozen", "", quiesce=False)


@pytest.fixture
def agent(vsphere):
    return vsphere.vm(AGENT_VM).moref


def hot_added(vsphere):
    return [disk.key for disk in vsphere.vm(AGENT_VM).disks if disk.independent]


@pytest.mark.parametrize("fault", ["drop-after", "drop"])
def test_an_attach_without_an_answer(lab, vsphere, frozen, agent, fault):
    lab.control("fault", "ReconfigVM_Task", fault, "--count", 1)
    if fault == "drop-after":
        assert vsphere.attach_disk(agent, frozen.disks[0]).key in hot_added(vsphere)
    else:
        with pytest.raises(errors.SourceUnavailableError):
            vsphere.attach_disk(agent, frozen.disks[0])
    assert len(hot_added(vsphere)) == (1 if fault == "drop-after" else 0)


@pytest.mark.parametrize("fault", ["drop-after", "drop"])
def test_a_detach_without_an_answer(lab, vsphere, frozen, agent, fault):
    attached = vsphere.attach_disk(agent, frozen.disks[0])
    lab.control("fault", "ReconfigVM_Task", fault, "--count", 1)
    if fault == "drop-after":
        vsphere.detach_disk(agent, attached.key)
    else:
        with pytest.raises(errors.SourceUnavailableError):
            vsphere.detach_disk(agent, attached.key)
        vsphere.detach_disk(agent, attached.key)
    assert hot_added(vsphere) == []


def test_somebody_who_changed_the_agents_vm_meanwhile(lab, vsphere, frozen, agent):
    lab.control("fault", "ReconfigVM_Task", "ConcurrentAccess", "--count", 1)
    assert vsphere.attach_disk(agent, frozen.disks[0]).key in hot_added(vsphere)


def test_every_slot_and_a_new_controller(vsphere, frozen, agent):
    """The agent's VM has two controllers, and its own disk on one."""
    addresses = set()
    for _ in range(31):
        attached = vsphere.attach_disk(agent, frozen.disks[0])
        addresses.add((attached.bus, attached.unit))
    assert len(addresses) == 31
    assert {bus for bus, _ in addresses} == {0, 1, 2}
    assert 7 not in {unit for _, unit in addresses}
    for key in hot_added(vsphere):
        vsphere.detach_disk(agent, key)


def test_a_reader_waits_for_a_slow_guest_and_for_several_threads(lab, world, vsphere, frozen, tmp_path):
    lab.control("plug-delay", 0.3)
    reader = HotAddReader(vsphere, AGENT_VM, tmp_path / "state", SystemClock(), device_dir=world.devices)
    images = {disk.key: world.image(WEB, disk.key) for disk in frozen.disks}
    read = {}

    def one(disk):
        with reader.open(frozen, disk) as opened:
            found = bytearray(disk.capacity_bytes)
            opened.read_into(0, memoryview(found))
            read[disk.key] = bytes(found)

    threads = [threading.Thread(target=one, args=(disk,)) for disk in frozen.disks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == images
    assert hot_added(vsphere) == []
    assert lab.control("orphans") == []
    reader.close()


def test_what_a_killed_agent_left_is_detached_at_the_next_start(lab, world, vsphere, frozen, tmp_path):
    first = HotAddReader(vsphere, AGENT_VM, tmp_path / "state", SystemClock(), device_dir=world.devices)
    opened = first.open(frozen, frozen.disks[0])
    assert len(lab.control("orphans")) == 1
    first.close()  # the journal's lock goes as it would with the process
    second = HotAddReader(vsphere, AGENT_VM, tmp_path / "state", SystemClock(), device_dir=world.devices)
    assert second.release_leftovers() == 1
    assert lab.control("orphans") == []
    second.close()
    assert opened is not None


def test_the_lab_is_clean_between_tests(lab):
    clean(lab)
    assert lab.control("orphans") == []
    assert lab.control("snapshots", WEB) == []

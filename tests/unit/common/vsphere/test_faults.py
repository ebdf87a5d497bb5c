import http.client
import ssl

import pytest
from pyVmomi import vim, vmodl

from common import errors
from common.vsphere.faults import CHANGED_AREAS, TABLE, translate, vendor_text

NO_PERMISSION = vim.fault.NoPermission(
    privilegeId="VirtualMachine.State.CreateSnapshot", object=vim.VirtualMachine("vm-3", None)
)


@pytest.mark.parametrize(
    ("fault", "source", "target"),
    [
        (vim.fault.NoDiskSpace(file="[ds] x"), errors.SourceError, errors.VCenterError),
        (TimeoutError("timed out"), errors.SourceUnavailableError, errors.VCenterUnavailableError),
        (vim.fault.FileLocked(file="[ds] x"), errors.BusyError, errors.BusyError),
        (KeyError("unheard of"), errors.SourceError, errors.VCenterError),
    ],
)
def test_a_failure_is_the_site_s_whose_vcenter_it_is(fault, source, target):
    assert type(translate(fault, "doing it", "vm x")) is source
    of_target = translate(fault, "doing it", "vm x", side=errors.Fault.TARGET)
    assert type(of_target) is target
    assert of_target.fault in {errors.Fault.TARGET, errors.Fault.CALLER}


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (vim.fault.InvalidLogin(msg="no"), errors.AccessDeniedError),
        (vim.fault.NotAuthenticated(), errors.AccessDeniedError),
        (NO_PERMISSION, errors.AccessDeniedError),
        (vmodl.fault.ManagedObjectNotFound(), errors.NotFoundError),
        (vim.fault.FileNotFound(file="[ds] x"), errors.SourceError),
        (vim.fault.FileLocked(file="[ds] x"), errors.BusyError),
        (vim.fault.NoDiskSpace(file="[ds] x"), errors.SourceError),
        (vim.fault.TaskInProgress(), errors.BusyError),
        (vim.fault.InvalidPowerState(), errors.PreconditionError),
        (vim.fault.EncryptionKeyRequired(), errors.PreconditionError),
        (vim.fault.FilesystemQuiesceFault(), errors.QuiesceError),
        (vim.fault.InvalidState(), errors.SourceError),
        (vim.fault.TooManySnapshotLevels(), errors.PreconditionError),
        (vmodl.fault.HostNotReachable(), errors.SourceUnavailableError),
        (vmodl.fault.SystemError(reason="odd"), errors.SourceError),
        (vim.fault.GenericVmConfigFault(reason="odd"), errors.SourceError),
        (vmodl.MethodFault(), errors.SourceError),
        (ConnectionResetError(104, "reset"), errors.SourceUnavailableError),
        (TimeoutError("timed out"), errors.SourceUnavailableError),
        (ssl.SSLError(1, "wrong version number"), errors.SourceUnavailableError),
        (ssl.SSLCertVerificationError(1, "self-signed"), errors.CertificateError),
        (http.client.RemoteDisconnected("gone"), errors.SourceUnavailableError),
        (http.client.BadStatusLine("x"), errors.SourceUnavailableError),
        (KeyError("vim.fault.FromTomorrow"), errors.SourceError),
        (AttributeError("x"), errors.SourceError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_each_fault_has_its_error(fault, kind):
    error = translate(fault, "taking the snapshot", "vm vm-3")
    assert type(error) is kind
    assert error.message.startswith("taking the snapshot failed (")
    assert error.subject == "vm vm-3"
    assert error.next_step
    assert error.message.isprintable()


def test_what_cannot_be_reached_is_named_with_its_address():
    refused = ConnectionRefusedError(111, "Connection refused")
    error = translate(refused, "logging in to the vCenter", "vcenter", address="vc.example:443")
    assert error.message == "logging in to the vCenter failed (vc.example:443: Connection refused)"
    answered = translate(vmodl.fault.SystemError(reason="odd"), "asking", "vm vm-3", address="vc.example:443")
    assert answered.message == "asking failed (SystemError: odd)"


def test_our_own_errors_pass():
    mine = errors.BusyError("x", subject="y", next_step="z")
    assert translate(mine, "a", "b") is mine


@pytest.mark.parametrize("fault", [vim.fault.FileFault(file="[ds] web-ctk.vmdk"), vmodl.fault.InvalidArgument()])
def test_change_queries_read_two_faults_differently(fault):
    assert type(translate(fault, "asking", "disk 1", CHANGED_AREAS)) is errors.ChangeTrackingError
    assert type(translate(fault, "asking", "disk 1")) is errors.SourceError


def test_a_subclass_takes_its_nearest_row():
    locked = vim.fault.FileLocked(file="[ds] web.vmdk")
    assert type(translate(locked, "asking", "disk 1", CHANGED_AREAS)) is errors.BusyError


def test_no_permission_names_the_privilege_and_the_object():
    assert vendor_text(NO_PERMISSION) == ("the login lacks the privilege VirtualMachine.State.CreateSnapshot on vm-3")


def test_newer_releases_list_several_privileges():
    missing = vim.fault.NoPermission.EntityPrivileges(
        entity=vim.VirtualMachine("vm-3", None), privilegeIds=["A.One", "B.Two"]
    )
    fault = vim.fault.NoPermission(missingPrivileges=[missing])
    assert "A.One, B.Two" in vendor_text(fault)
    assert "(not named)" in vendor_text(vim.fault.NoPermission())


def test_the_vendors_words_are_kept_on_one_line():
    fault = vim.fault.FileFault(file="[ds] web.vmdk", msg="Error\ncaused by file\x1b[31m", faultMessage=[])
    assert vendor_text(fault) == "FileFault: Error caused by file [31m; [ds] web.vmdk"
    assert "invalid property deviceKey" in vendor_text(vmodl.fault.InvalidArgument(invalidProperty="deviceKey"))
    assert vendor_text(vmodl.fault.SystemError(reason="out of memory")) == "SystemError: out of memory"
    assert vendor_text(vim.fault.Timedout()) == "Timedout"
    note = vmodl.LocalizableMessage(key="k", message="the disk is locked")
    assert vendor_text(vim.fault.Timedout(msg="late", faultMessage=[note])) == "Timedout: late; the disk is locked"


def test_long_words_are_cut():
    assert len(vendor_text(vmodl.fault.SystemError(reason="x" * 10_000))) < 600


def test_unknown_types_are_said_to_be_unknown():
    assert vendor_text(KeyError("vim.fault.FromTomorrow")) == (
        "the vCenter's answer cannot be understood (KeyError: 'vim.fault.FromTomorrow')"
    )


def test_every_row_says_what_to_do():
    for kind, next_step in (*TABLE.values(), *CHANGED_AREAS.values()):
        assert issubclass(kind, errors.KeysapartError)
        assert next_step
        assert not next_step.endswith(".")

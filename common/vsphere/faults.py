"""Every vCenter and transport fault that matters, and which error of ours it is: the one table.

A fault takes the row of its nearest listed ancestor, so subclasses need no row of their own (NotAuthenticated is a
NoPermission, FileLocked a FileFault). What the table does not know is a SourceError with the vendor's text, types that
the bindings do not know included: those surface as KeyError or AttributeError while an answer is decoded.
"""

import ssl
from collections.abc import Mapping
from http.client import HTTPException

from pyVmomi import vim, vmodl

from common.errors import (
    AccessDeniedError,
    BusyError,
    CertificateError,
    ChangeTrackingError,
    Fault,
    KeysapartError,
    NotFoundError,
    PreconditionError,
    QuiesceError,
    SourceError,
    SourceUnavailableError,
    VCenterError,
    VCenterUnavailableError,
)

Row = tuple[type[KeysapartError], str]
"""Error class and next step."""

_REACH = "check that the vCenter runs and can be reached, then run the command again"
_GONE = "run the command again, it reads the inventory anew"
_COMPARE = "run the sync as compare"
_BUSY = "wait until the other task has ended, then run the command again"
_QUIESCE = "check VMware Tools in the guest, or set quiesce_fallback to true, or quiesce to none"
_KEYS = "make the vCenter's key provider reachable from its hosts, then unlock the VM"

TABLE: Mapping[type[BaseException], Row] = {
    # Transport.
    ssl.SSLCertVerificationError: (
        CertificateError,
        "check ca_file or certificate_sha256 and the host name in the [vcenter] section",
    ),
    OSError: (SourceUnavailableError, _REACH),
    HTTPException: (SourceUnavailableError, _REACH),
    # Session and rights.
    vim.fault.InvalidLogin: (AccessDeniedError, "check user and password_file in the [vcenter] section"),
    vim.fault.NotAuthenticated: (AccessDeniedError, "check that nobody ends this login's sessions at the vCenter"),
    vim.fault.NoPermission: (AccessDeniedError, "grant the privilege to the login's role at the vCenter"),
    vmodl.fault.SecurityError: (AccessDeniedError, "check the role of the login at the vCenter"),
    vim.fault.RestrictedByAdministrator: (AccessDeniedError, "ask the administrator who restricted it"),
    # The object.
    vmodl.fault.ManagedObjectNotFound: (NotFoundError, _GONE),
    vim.fault.NotFound: (NotFoundError, _GONE),
    # Its state.
    vim.fault.TaskInProgress: (BusyError, _BUSY),
    vim.fault.ConcurrentAccess: (BusyError, _BUSY),
    vim.fault.ResourceInUse: (BusyError, _BUSY),
    vim.fault.MethodDisabled: (BusyError, "find who disabled the method (a backup product, often) and let it end"),
    vim.fault.InvalidPowerState: (PreconditionError, "bring the VM into the power state that the message names"),
    vim.fault.EncryptionKeyRequired: (PreconditionError, _KEYS),
    vim.fault.InvalidState: (SourceError, "wait until the VM's state has settled, then run the command again"),
    # Hosts and load.
    vmodl.fault.HostCommunication: (SourceUnavailableError, "check the connection between vCenter and host"),
    vim.fault.HostConnectFault: (SourceUnavailableError, "check the connection between vCenter and host"),
    vim.fault.Timedout: (SourceUnavailableError, "look at the vCenter's load, then run the command again"),
    vmodl.fault.RequestCanceled: (SourceUnavailableError, "find who cancelled the task, then run the command again"),
    # Snapshots and files.
    vim.fault.ApplicationQuiesceFault: (QuiesceError, _QUIESCE),
    vim.fault.FilesystemQuiesceFault: (QuiesceError, _QUIESCE),
    vim.fault.TooManySnapshotLevels: (PreconditionError, "delete snapshots of the VM"),
    vim.fault.SnapshotFault: (SourceError, "take a snapshot by hand in the vCenter to see what is in its way"),
    vim.fault.NoDiskSpace: (SourceError, "make room on the datastore"),
    vim.fault.FileLocked: (BusyError, "find who holds the file (a backup proxy, often) and let it go"),
    vim.fault.FileFault: (SourceError, "check the VM's files on the datastore"),
    # Ours, most likely.
    vmodl.fault.MethodNotFound: (SourceError, "check that the endpoint is a vCenter of version 6.5 or newer"),
    vmodl.fault.InvalidArgument: (SourceError, "look at the vCenter's log, and report this with our log"),
}

CHANGED_AREAS: Mapping[type[BaseException], Row] = {
    # FileFault: id older than the tracking file, or that file lost; InvalidArgument: id from before the disk was there.
    vim.fault.FileFault: (ChangeTrackingError, _COMPARE),
    vmodl.fault.InvalidArgument: (ChangeTrackingError, _COMPARE),
}
"""What differs when changed areas are asked for."""

_AT_TARGET: Mapping[type[KeysapartError], type[KeysapartError]] = {
    SourceUnavailableError: VCenterUnavailableError,
    SourceError: VCenterError,
}
"""The rows' classes name the source's vCenter; the target's has its own."""

_EXPIRED = 10
"""OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED."""
_OTHER: Row = (SourceError, "look at the vCenter's tasks and log")
_TRANSPORT = (OSError, HTTPException)
_REACHING = (*_TRANSPORT, vim.fault.InvalidLogin)
"""Failures that want to be told with the address."""
_UNDERSTOOD = (vmodl.MethodFault, *_TRANSPORT)


def translate(
    error: Exception,
    what: str,
    subject: str,
    overrides: Mapping[type[BaseException], Row] | None = None,
    *,
    address: str = "",
    side: Fault = Fault.SOURCE,
) -> KeysapartError:
    """Our error for a failure of ``what`` (an action in words: "taking the snapshot"); ours pass as they are.

    ``address`` is the vCenter's, told where the failure is one of reaching it; ``side`` is the site it stands in.
    """
    if isinstance(error, KeysapartError):
        return error
    rows = {**TABLE, **(overrides or {})}
    kind, next_step = next((rows[ancestor] for ancestor in type(error).__mro__ if ancestor in rows), _OTHER)
    if isinstance(error, ssl.SSLCertVerificationError) and getattr(error, "verify_code", 0) == _EXPIRED:
        next_step = "renew the vCenter's certificate"
    kind = at_side(kind, side)
    at = f"{address}: " if address and isinstance(error, _REACHING) else ""
    return kind(f"{what} failed ({at}{vendor_text(error)})", subject=subject, next_step=next_step)


def at_side(kind: type[KeysapartError], side: Fault) -> type[KeysapartError]:
    """The class that ``kind`` is when it is a vCenter of ``side`` (SOURCE or TARGET) that failed."""
    return _AT_TARGET.get(kind, kind) if side is Fault.TARGET else kind


def vendor_text(error: Exception) -> str:
    """The vendor's own words on one line, type first; never the whole fault, which holds objects and stacks."""
    name = type(error).__name__.rpartition(".")[2]
    if not isinstance(error, _UNDERSTOOD):
        return f"the vCenter's answer cannot be understood ({name}: {_line(str(error))})"
    if isinstance(error, vim.fault.NoPermission) and not isinstance(error, vim.fault.NotAuthenticated):
        return f"the login lacks the privilege {_privileges(error)}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused, {_line(getattr(error, 'verify_message', None) or str(error.args[-1]))}"
    if isinstance(error, OSError):
        return _line(error.strerror or str(error) or name)
    if not isinstance(error, vmodl.MethodFault):
        return f"{name}: {_line(str(error))}"
    words = [getattr(error, part, None) for part in ("msg", "reason", "file")]
    words += [getattr(one, "message", None) for one in getattr(error, "faultMessage", None) or []]
    if getattr(error, "invalidProperty", None):
        words.append(f"invalid property {error.invalidProperty}")
    text = "; ".join(dict.fromkeys(_line(word) for word in words if word))
    return f"{name}: {text}" if text else name


def _privileges(error: vim.fault.NoPermission) -> str:
    """Privilege ids of a NoPermission, and where they lack; newer releases list several."""
    missing = getattr(error, "missingPrivileges", None) or []
    ids = [privilege for entity in missing for privilege in entity.privilegeIds or []]
    if getattr(error, "privilegeId", None):
        ids.append(error.privilegeId)
    where = getattr(error, "object", None)
    on = f" on {str(where).strip(chr(39)).rpartition(':')[2]}" if where else ""
    return f"{', '.join(dict.fromkeys(ids)) or '(not named)'}{on}"


def _line(text: str) -> str:
    """Bounded, printable, on one line."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())[:500]

"""The library's results in our error tree, its own text always kept.

A retryable error means that opening the disk anew may help; the others need a person or a new sync.
"""

from typing import Final, NamedTuple

from common.errors import (
    AccessDeniedError,
    BusyError,
    CertificateError,
    InternalError,
    KeysapartError,
    PreconditionError,
    SourceError,
    SourceUnavailableError,
)
from source_agent.disk_read.vddk.abi import CODE_MASK

OUT_OF_MEMORY = "end what else runs on the agent's machine, or give it more memory"
WAIT = "wait until the other reader is done, and run the sync again"
REPORT = "report this with the log"
RIGHTS = "check the agent's role against docs/operations.md, and that a SCSI address of the agent's VM is free"
CHAIN = "check the datastore and the VM's disk chain, then run the sync again"
PATH = "run the sync again with a new snapshot; if it fails again, look for somebody who moves the VM's files"
LOGIN = "check user and password_file in the [vcenter] section"
KEYS = "check that the VM's key provider answers at this site and that the agent's role has Cryptographer.Access"
NETWORK = "check that port 902 of every ESXi host can be reached from the agent's machine, then run the sync again"
HOST = "run the sync again when the VM runs on a host that is not in maintenance"
LICENCE = "check the site's vSphere licence: reading disks over the network needs one that allows it"
GONE = "run the sync again: the VM or the snapshot is not there any more"
THUMBPRINT = (
    "check the [vcenter] section, and the library's log (log level debug): this is also what a wrong thumbprint of the"
    " vCenter's certificate looks like"
)
UNINSTALLED = "check vddk_dir in the [reader] section, or unpack the library there again"


class Row(NamedTuple):
    """What a result means to us."""

    name: str
    kind: type[KeysapartError]
    next_step: str


_NETWORK_CODES = {
    14006: "NETBLKDEV_HANDSHAKE",
    14007: "SOCKET_CREATION",
    14008: "SERVER_NOT_FOUND",
    14009: "CONNECTION_REFUSED",
    14010: "TCP_ERROR",
    14011: "CONNECTION_LOST",
    14012: "HASHFILE_VOLUME_NOT_FOUND",
    14013: "HASHFILE_INVALID",
    18000: "CANNOT_CONNECT_TO_HOST",
}
_LOST_CODES = {26: "HOST_NOT_CONNECTED", 34: "VM_HOST_DISCONNECTED", 36: "HOST_CONNECTION_LOST"}
_MAINTENANCE_CODES = {14014: "HOST_SERVER_SHUTDOWN", 14015: "HOST_SERVER_NOT_AVAILABLE"}
_CHAIN_CODES = {
    7: "FILE_ERROR",
    9: "INCORRECT_FILE_TYPE",
    14005: "FILE_ERROR_EOF",
    16000: "DISK_INVAL",
    16001: "DISK_NOINIT",
    16002: "DISK_NOIO",
    16003: "DISK_PARTIALCHAIN",
    16006: "DISK_NEEDSREPAIR",
    16008: "DISK_CID_MISMATCH",
    16012: "DISK_OPENPARENT",
    16030: "DISK_INVALIDCHAIN",
    16062: "DISK_CANTREPAIR",
    16063: "DISK_INVALIDDISK",
    16067: "DISK_CAPACITY_MISMATCH",
}
_KEY_CODES = {
    30: "NEED_KEY",
    16014: "DISK_NEEDKEY",
    16016: "DISK_NOTENCRYPTED",
    16017: "DISK_NOKEY",
    16020: "DISK_NOTENCDESC",
}
_OUR_CODES = {
    3: "INVALID_ARG",
    24: "BUFFER_TOOSMALL",
    1000: "INVALID_HANDLE",
    14003: "INVALID_VALUE",
    14004: "SECTORSIZE",
    16007: "DISK_OUTOFRANGE",
    16053: "DISK_SUBSYSTEM_INIT_FAIL",
    16054: "DISK_INVALID_CONNECTION",
    16061: "DISK_ENCODING",
    18001: "NOT_FOR_REMOTE_HOST",
}

TABLE: Final[dict[int, Row]] = {
    1: Row("FAIL", SourceError, THUMBPRINT),
    2: Row("OUT_OF_MEMORY", SourceUnavailableError, OUT_OF_MEMORY),
    4: Row("FILE_NOT_FOUND", SourceError, PATH),
    5: Row("OBJECT_IS_BUSY", BusyError, WAIT),
    6: Row("NOT_SUPPORTED", PreconditionError, CHAIN),
    8: Row("DISK_FULL", PreconditionError, "make room on the datastore"),
    10: Row("CANCELLED", SourceUnavailableError, "run the sync again"),
    11: Row("FILE_READ_ONLY", SourceError, CHAIN),
    12: Row("FILE_ALREADY_EXISTS", SourceError, CHAIN),
    13: Row("FILE_ACCESS_ERROR", AccessDeniedError, RIGHTS),
    15: Row("FILE_ALREADY_LOCKED", BusyError, WAIT),
    20: Row("NOT_SUPPORTED_ON_REMOTE_OBJECT", PreconditionError, CHAIN),
    21: Row("FILE_TOO_BIG", PreconditionError, CHAIN),
    22: Row("FILE_NAME_INVALID", SourceError, PATH),
    32: Row("LICENSE", PreconditionError, LICENCE),
    35: Row("AUTHENTICATION_FAIL", AccessDeniedError, LOGIN),
    2000: Row("NOT_FOUND", SourceError, GONE),
    3014: Row("HOST_USER_PERMISSIONS", AccessDeniedError, RIGHTS),
    4000: Row("VM_NOT_FOUND", SourceError, GONE),
    16013: Row("DISK_NOTSUPPORTED", PreconditionError, CHAIN),
    16027: Row("DISK_TOOMANYOPENFILES", SourceUnavailableError, "lower parallel_disks in the [sync] section"),
    16052: Row("DISK_KEY_NOTFOUND", SourceError, CHAIN),
    16064: Row("DISK_NOLICENSE", PreconditionError, LICENCE),
    16065: Row("DISK_NODEVICE", SourceError, CHAIN),
    16066: Row("DISK_UNSUPPORTEDDEVICE", PreconditionError, CHAIN),
    18002: Row("INVALID_HOSTNAME", CertificateError, "check host in the [vcenter] section"),
    20005: Row("OPERATION_DISABLED", BusyError, WAIT),
    **{code: Row(name, SourceUnavailableError, NETWORK) for code, name in (_NETWORK_CODES | _LOST_CODES).items()},
    **{code: Row(name, SourceUnavailableError, HOST) for code, name in _MAINTENANCE_CODES.items()},
    **{code: Row(name, SourceError, CHAIN) for code, name in _CHAIN_CODES.items()},
    **{code: Row(name, PreconditionError, KEYS) for code, name in _KEY_CODES.items()},
    **{code: Row(f"CRYPTO_{code}", PreconditionError, KEYS) for code in range(17000, 17013)},
    **{code: Row(name, InternalError, REPORT) for code, name in _OUR_CODES.items()},
}
_UNKNOWN = Row("unknown", SourceError, "look the number up in the library's documentation, and report it with the log")


def raised(call: str, result: int, text: str, subject: str, doing: str) -> KeysapartError:
    """The error for a result that is not OK.

    Args:
        call: the library's function, without its prefix.
        result: whole, details above bit 16 included.
        text: the vendor's.
        subject: the disk or library, for the error.
        doing: what failed, such as ``disk 2000 cannot be opened``.
    """
    code = result & CODE_MASK
    row = TABLE.get(code, _UNKNOWN)
    said = f"{text}, " if text else ""
    return row.kind(
        f"{doing} ({said}{call}: VIX_E_{row.name}, {code}, whole {result:#x})", subject=subject, next_step=row.next_step
    )


def lost(what: str, subject: str) -> SourceUnavailableError:
    """The worker died or fell silent: ``what`` says which."""
    return SourceUnavailableError(
        f"the VDDK worker of {subject} {what}",
        subject=subject,
        next_step="run the sync again; if it happens again, try another release of VDDK, or set transport to hotadd",
    )


def unusable(text: str, root: object) -> PreconditionError:
    """The library cannot be loaded."""
    return PreconditionError(
        f"the VDDK library under {root} cannot be loaded ({text})", subject="vddk", next_step=UNINSTALLED
    )

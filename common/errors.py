"""The one error tree: whose fault, which object, does retrying help, what to do next.

Every failure that a user, an operator or the other half may see is one of the classes below. The set is closed:
``common/status_map.py`` maps each to a gRPC status and back, ``exit_code`` says how a command ends. A message never
carries secrets or guest data, so it may be logged, shown and sent as it is.
"""

import enum
from typing import ClassVar


class Fault(enum.StrEnum):
    """Whose fault a failure is, in the words of the logs."""

    CALLER = "caller"
    """What was asked for cannot be done as asked: input, configuration, order of calls."""
    SOURCE = "source"
    """The protected site: vCenter, ESXi, the VM, its disks."""
    TARGET = "target"
    """The target appliance or its store."""
    KMS = "kms"
    """The key server of the target's own site, or the key in it."""
    NETWORK = "network"
    """What lies between the two."""
    KEYSAPART = "keysapart"
    """Our own mistake: please report it."""


class KeysapartError(Exception):
    """Base of the tree; raise a subclass.

    Attributes:
        message: what happened, naming the object, without a full stop.
        subject: which object, as ``kind name`` (``vm web01``, ``replica 4c4c…``), for logs and machines.
        next_step: what to do about it, an imperative clause without a full stop.
    """

    fault: ClassVar[Fault]
    retryable: ClassVar[bool]
    reason: ClassVar[str]
    exit_code: ClassVar[int]

    def __init__(self, message: str, *, subject: str, next_step: str) -> None:
        super().__init__(message)
        self.message = message
        self.subject = subject
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}: {self.next_step}"


# Exit codes of both commands; README lists them.
EXIT_OK = 0
EXIT_INTERNAL = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_NOT_FOUND = 4
EXIT_TRY_LATER = 5
EXIT_DAMAGED = 6
EXIT_INTERRUPTED = 130


class InvalidInputError(KeysapartError):
    """An argument or a message field is malformed."""

    fault, retryable, reason, exit_code = Fault.CALLER, False, "INVALID_INPUT", EXIT_USAGE


class ConfigError(KeysapartError):
    """The configuration file cannot be used."""

    fault, retryable, reason, exit_code = Fault.CALLER, False, "CONFIG", EXIT_USAGE


class CertificateError(KeysapartError):
    """A certificate is missing, expired, foreign or not trusted, on either side."""

    fault, retryable, reason, exit_code = Fault.CALLER, False, "CERTIFICATE", EXIT_REFUSED


class AccessDeniedError(KeysapartError):
    """The identity is known, but not allowed to do this."""

    fault, retryable, reason, exit_code = Fault.CALLER, False, "ACCESS_DENIED", EXIT_REFUSED


class NotFoundError(KeysapartError):
    """The named VM, replica, point or disk does not exist (or is not the caller's: the two look the same)."""

    fault, retryable, reason, exit_code = Fault.CALLER, False, "NOT_FOUND", EXIT_NOT_FOUND


class AlreadyExistsError(KeysapartError):
    """What should be created is there already."""

    fault, retryable, reason, exit_code = Fault.CALLER, False, "ALREADY_EXISTS", EXIT_REFUSED


class BusyError(KeysapartError):
    """Somebody else holds the VM, the replica, the port or the lock."""

    fault, retryable, reason, exit_code = Fault.CALLER, True, "BUSY", EXIT_TRY_LATER


class FencedError(KeysapartError):
    """This sync was superseded by a newer one and may write no more."""

    fault, retryable, reason, exit_code = Fault.CALLER, False, "FENCED", EXIT_REFUSED


class PreconditionError(KeysapartError):
    """The VM, replica or key is in a state that forbids the operation; a person must act first."""

    fault, retryable, reason, exit_code = Fault.CALLER, False, "PRECONDITION", EXIT_REFUSED


class ProtocolError(KeysapartError):
    """The other half broke the wire protocol, or bytes arrived altered."""

    fault, retryable, reason, exit_code = Fault.NETWORK, False, "PROTOCOL", EXIT_INTERNAL


class LimitExceededError(KeysapartError):
    """A bound was crossed: of message size, streams, idle time, or a snapshot's age and size."""

    fault, retryable, reason, exit_code = Fault.CALLER, True, "LIMIT_EXCEEDED", EXIT_TRY_LATER


class TargetUnavailableError(KeysapartError):
    """The target appliance does not answer, or went away in the middle."""

    fault, retryable, reason, exit_code = Fault.NETWORK, True, "TARGET_UNAVAILABLE", EXIT_TRY_LATER


class SourceUnavailableError(KeysapartError):
    """The vCenter does not answer, or went away in the middle."""

    fault, retryable, reason, exit_code = Fault.SOURCE, True, "SOURCE_UNAVAILABLE", EXIT_TRY_LATER


class SourceError(KeysapartError):
    """The vCenter, a host or a disk answered with a fault that retrying as such does not cure."""

    fault, retryable, reason, exit_code = Fault.SOURCE, False, "SOURCE", EXIT_REFUSED


class VCenterUnavailableError(SourceUnavailableError):
    """The same of the target site's vCenter."""

    fault, reason = Fault.TARGET, "VCENTER_UNAVAILABLE"


class VCenterError(SourceError):
    """The same of the target site's vCenter, its hosts and disks."""

    fault, reason = Fault.TARGET, "VCENTER"


class ChangeTrackingError(SourceError):
    """A changed-block answer cannot be trusted; a compare sync is the cure."""

    reason = "CHANGE_TRACKING"
    retryable = True


class QuiesceError(SourceError):
    """The guest's file systems could not be flushed and frozen for a snapshot; none was taken."""

    reason = "QUIESCE"
    retryable = True


class KmsUnavailableError(KeysapartError):
    """The target's KMS does not answer or refuses the appliance; nothing is accepted meanwhile."""

    fault, retryable, reason, exit_code = Fault.KMS, True, "KMS_UNAVAILABLE", EXIT_TRY_LATER


class KeyNotUsableError(KeysapartError):
    """The tenant's KEK is missing, not Active, or refuses to unwrap; nothing is accepted."""

    fault, retryable, reason, exit_code = Fault.KMS, False, "KEY_NOT_USABLE", EXIT_REFUSED


class StoreFullError(KeysapartError):
    """The target's store has no room; committed points are untouched."""

    fault, retryable, reason, exit_code = Fault.TARGET, True, "STORE_FULL", EXIT_TRY_LATER


class StoreError(KeysapartError):
    """The target's store failed to read or write; nothing is called corrupt because of it."""

    fault, retryable, reason, exit_code = Fault.TARGET, True, "STORE", EXIT_TRY_LATER


class DamagedError(KeysapartError):
    """Stored bytes are not what was committed."""

    fault, retryable, reason, exit_code = Fault.TARGET, False, "DAMAGED", EXIT_DAMAGED


class InterruptedSyncError(KeysapartError):
    """A signal or an abort ended the operation; nothing was committed."""

    fault, retryable, reason, exit_code = Fault.CALLER, True, "INTERRUPTED", EXIT_INTERRUPTED


class ParkedSyncError(InterruptedSyncError):
    """A signal ended the operation; what it did so far stands, and the next sync goes on with it."""

    reason = "PARKED"


class InternalError(KeysapartError):
    """A failure that no other class describes."""

    fault, retryable, reason, exit_code = Fault.KEYSAPART, False, "INTERNAL", EXIT_INTERNAL


def _leaves(kind: type[KeysapartError]) -> list[type[KeysapartError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in _leaves(child))]


BY_REASON: dict[str, type[KeysapartError]] = {kind.reason: kind for kind in _leaves(KeysapartError)[1:]}
"""Every class of the tree by its wire name."""

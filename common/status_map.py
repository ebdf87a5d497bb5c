"""Errors to gRPC statuses and back: one table.

A status carries ``google.rpc.ErrorInfo`` in its details (``grpc-status-details-bin``): ``reason`` names the class of
the error tree, ``metadata`` the subject and the next step. A status without it (the other half died, a proxy
answered) becomes TargetUnavailableError or InternalError by its code alone.
"""

from typing import Any, Final

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from common import errors
from common.errors import KeysapartError

DOMAIN: Final = "keysapart"

STATUS: Final[dict[type[KeysapartError], grpc.StatusCode]] = {
    errors.InvalidInputError: grpc.StatusCode.INVALID_ARGUMENT,
    errors.ConfigError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.CertificateError: grpc.StatusCode.UNAUTHENTICATED,
    errors.AccessDeniedError: grpc.StatusCode.PERMISSION_DENIED,
    errors.NotFoundError: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExistsError: grpc.StatusCode.ALREADY_EXISTS,
    errors.BusyError: grpc.StatusCode.ABORTED,
    errors.FencedError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.PreconditionError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ProtocolError: grpc.StatusCode.DATA_LOSS,
    errors.LimitExceededError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.TargetUnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.SourceUnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.SourceError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.VCenterUnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.VCenterError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ChangeTrackingError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.QuiesceError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.KmsUnavailableError: grpc.StatusCode.UNAVAILABLE,
    errors.KeyNotUsableError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StoreFullError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StoreError: grpc.StatusCode.UNAVAILABLE,
    errors.DamagedError: grpc.StatusCode.DATA_LOSS,
    errors.InterruptedSyncError: grpc.StatusCode.CANCELLED,
    errors.ParkedSyncError: grpc.StatusCode.CANCELLED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
}

_UNREACHED: Final = {
    grpc.StatusCode.UNAVAILABLE: "the target does not answer",
    grpc.StatusCode.DEADLINE_EXCEEDED: "the target did not answer in time",
    grpc.StatusCode.CANCELLED: "the call to the target was cut",
}


def to_status(error: KeysapartError) -> status_pb2.Status:
    """The status that tells the other half of ``error``."""
    info = error_details_pb2.ErrorInfo(
        reason=error.reason,
        domain=DOMAIN,
        metadata={
            "subject": error.subject,
            "next_step": error.next_step,
            "fault": error.fault.value,
            "retryable": str(error.retryable).lower(),
        },
    )
    detail: Any = any_pb2.Any()
    detail.Pack(info)
    return status_pb2.Status(code=STATUS[type(error)].value[0], message=error.message, details=[detail])


def abort(context: grpc.ServicerContext, error: KeysapartError) -> None:
    """End the RPC with ``error``; does not return."""
    context.abort_with_status(rpc_status.to_status(to_status(error)))


def _our_info(detail: any_pb2.Any) -> Any:
    """The ErrorInfo in ``detail`` if it is one of ours; what cannot be parsed is somebody else's."""
    info: Any = error_details_pb2.ErrorInfo()
    try:
        return info if detail.Unpack(info) and info.domain == DOMAIN else None
    except DecodeError:
        return None


def from_rpc_error(error: Any, *, subject: str) -> KeysapartError:
    """The error behind a failed call; ``subject`` names the other half, such as ``target host:port``.

    ``error`` is what a client stub raised: a ``grpc.RpcError`` that is a ``grpc.Call`` too, which typing cannot say.
    """
    status: Any = rpc_status.from_call(error) if hasattr(error, "trailing_metadata") else None
    for detail in status.details if status is not None else ():
        info = _our_info(detail)
        if info is not None:
            kind = errors.BY_REASON.get(info.reason, errors.InternalError)
            return kind(
                status.message,
                subject=info.metadata.get("subject", subject),
                next_step=info.metadata.get("next_step", "see the target's log"),
            )
    code = error.code() if hasattr(error, "code") else grpc.StatusCode.UNKNOWN
    text = (error.details() or "") if hasattr(error, "details") else str(error)
    if code in _UNREACHED:
        return errors.TargetUnavailableError(
            f"{_UNREACHED[code]} ({text})" if text else _UNREACHED[code],
            subject=subject,
            next_step="check that target-appliance serves there and that the network lets the agent through",
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return errors.LimitExceededError(
            f"the target refused for want of room in a limit ({text})", subject=subject, next_step="sync again later"
        )
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return errors.PreconditionError(
            f"the target does not offer this call ({text})",
            subject=subject,
            next_step="upgrade the older of the two halves",
        )
    return errors.InternalError(
        f"the target answered {code.name} ({text})", subject=subject, next_step="report it with the target's log"
    )

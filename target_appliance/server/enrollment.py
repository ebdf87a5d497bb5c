"""The enrolment port: one RPC for agents that have no certificate yet, on a listener and a pool of its own.

Only the appliance shows a certificate here. What a stranger can cost is bounded: by the door before it connections,
their age and bytes, then threads, the size of a message, and how often he may fail.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc

from common import log
from common.address import HostPort
from common.errors import AccessDeniedError, BusyError, InternalError, KeysapartError
from common.pairing_line import TOKEN_BYTES
from common.status_map import abort
from common.wire.v1 import enrollment_pb2 as wire
from common.wire.v1 import enrollment_pb2_grpc as services
from target_appliance.audit.event import Event, What, Who
from target_appliance.identity.requests import requested_key
from target_appliance.server.attempts import Attempts, Rates
from target_appliance.server.door import Bounds, door, stranger
from target_appliance.server.registrar import Registrar

_BOUNDS: Final = Bounds()
_SPARE_THREADS: Final = 16
"""Beside one for each connection, which has one call at most: gRPC lets a call hold a thread before its request has
come, and a while after its connection was ended."""
_DRAIN_SECONDS: Final = 2.0
_SOCKET: Final = "enrollment.sock"
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 8 << 10),
    # The windows of a call and of a connection, which are megabytes otherwise.
    ("grpc.http2.lookahead_bytes", 16 << 10),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.max_metadata_size", 4 << 10),
    ("grpc.max_concurrent_streams", 1),
    ("grpc.server_handshake_timeout_ms", 5_000),
    ("grpc.max_connection_idle_ms", 5_000),
)
_STRANGER: Final = Who("stranger")
_log = log.get("enrollment")


@dataclass(frozen=True)
class EnrollmentPort:
    """An open port."""

    port: int


class EnrollmentService:
    """The handler; gRPC calls it."""

    def __init__(self, registrar: Registrar, attempts: Attempts) -> None:
        self._registrar = registrar
        self._attempts = attempts

    def Enroll(self, request: wire.EnrollRequest, context: grpc.ServicerContext) -> wire.EnrollResponse:  # noqa: N802 - the proto's name
        """A certificate for the token's agent. Who sends a wrong token learns that, and our log why."""
        peer = stranger(context.peer())
        try:
            return self._enroll(request, peer)
        except KeysapartError as error:
            failure = error
        except Exception as error:  # noqa: BLE001  whatever it is, a stranger gets a status and no traceback
            _log.error("unexpected failure", error=type(error).__name__, where=log.where(error))
            failure = InternalError(
                "the appliance failed unexpectedly", subject="pairing", next_step="see the appliance's log"
            )
        _log.warning("pairing refused", peer=peer, outcome=failure.reason, cause=failure.message)
        facts = {"peer": peer, "cause": failure.message}
        self._registrar.recorder.refused(Event(What.REFUSED, _STRANGER, "call Enroll", failure.reason, facts))
        if isinstance(failure, AccessDeniedError):
            failure = AccessDeniedError(
                "the target does not accept this pairing line",
                subject="pairing line",
                next_step="ask its operator for a new one; the target's log says what is wrong with this one",
            )
        try:
            abort(context, failure)
        finally:
            del failure  # its traceback holds this frame, and with it gRPC's call
        raise AssertionError("abort does not return")

    def _enroll(self, request: wire.EnrollRequest, peer: str) -> wire.EnrollResponse:
        with self._attempts.attempt(peer):
            key = requested_key(request.request)
            if len(request.token) != TOKEN_BYTES:
                raise AccessDeniedError("the token has a wrong length", subject="pairing", next_step="send all of it")
            admitted = self._registrar.pair(request.token, key, peer)
        row = admitted.row
        _log.info("agent paired", tenant=row.tenant, agent=row.agent, peer=peer, certificate=row.fingerprint)
        return wire.EnrollResponse(certificate=admitted.certificate_pem, authorities=admitted.authorities_pem)


@contextmanager
def enrollment_port(
    registrar: Registrar,
    address: HostPort,
    credentials: grpc.ServerCredentials,
    folder: Path,
    rates: Rates | None = None,
) -> Iterator[EnrollmentPort]:
    """Serve on ``address`` (``host:port``, port 0 for any free one) while the block runs; then close.

    Args:
        registrar: holds the tokens and issues the certificates.
        address: where.
        credentials: the appliance's certificate, without asking for the client's.
        folder: of this process alone, for the socket behind the door.
        rates: how often strangers may fail.

    Raises:
        BusyError: the port is taken, or the address is not this machine's.
    """
    with ExitStack() as life:
        pool = ThreadPoolExecutor(_BOUNDS.connections + _SPARE_THREADS, "enrol")
        life.callback(pool.shutdown, cancel_futures=True)
        server = grpc.server(pool, options=_OPTIONS)
        service = EnrollmentService(registrar, Attempts(registrar.clock, rates or Rates()))
        services.add_EnrollmentServicer_to_server(service, server)  # type: ignore[no-untyped-call,arg-type,unused-ignore]
        onward = life.enter_context(_short(folder, _SOCKET))
        server.add_secure_port(f"unix:{onward}", credentials)
        try:
            port = life.enter_context(door(address, onward, _BOUNDS))
        except OSError:
            raise BusyError(
                f"cannot listen on {address}: the port is in use, or the address is not this machine's",
                subject=f"port {address}",
                next_step="end the other program, or change listen.enrollment in the configuration",
            ) from None
        server.start()
        # Before the door closes, so that who is being paired gets the answer.
        life.callback(lambda: server.stop(_DRAIN_SECONDS).wait())
        yield EnrollmentPort(port)


@contextmanager
def _short(folder: Path, name: str) -> Iterator[str]:
    """A path of ``name`` in ``folder`` that is short enough for a Unix socket; gone with the block."""
    (folder / name).unlink(missing_ok=True)
    handle = os.open(folder, os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}/{name}"
    finally:
        (folder / name).unlink(missing_ok=True)
        os.close(handle)

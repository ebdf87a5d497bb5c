"""Between gRPC and the services: who is it, may it, how many; and every failure in our words.

A handler receives a ``Call`` in place of gRPC's context. Whatever it raises becomes a status through the one table;
what is none of ours is logged with its traceback and told to the caller as an internal error, without details.
"""

import hashlib
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError

from common import log
from common.clock import Clock
from common.errors import (
    AccessDeniedError,
    CertificateError,
    InternalError,
    KeysapartError,
    NotFoundError,
    ProtocolError,
)
from common.status_map import abort
from target_appliance.audit.calls import ASKED, CallAudit, CallMade
from target_appliance.audit.event import BEGUN, OK, Fact
from target_appliance.identity.authn import Identity
from target_appliance.server.limits import IdleWatch, StreamCap
from target_appliance.server.rpc_policy import POLICY, Row
from target_appliance.server.standing import Standing

_log = log.get("server")

_UNSERVED: Final = "of a method that is not served"

Identify = Callable[[bytes], Identity]
"""The identity that a PEM certificate proves now, of a tenant that is known; raises CertificateError."""


@dataclass(frozen=True, slots=True)
class Call:
    """One RPC as a service sees it."""

    standing: Standing
    method: str
    context: grpc.ServicerContext
    facts: dict[str, Fact]
    """What the audit log should know of it; the service adds to it."""
    begun: Callable[[], None]
    """To be called before data go out: tells the audit log, and raises StoreError when that cannot be written."""

    @property
    def caller(self) -> Identity:
        """Who calls."""
        return self.standing.identity


class Edge(grpc.ServerInterceptor):
    """The interceptor that stands before every method."""

    def __init__(self, identify: Identify, cap: StreamCap, watch: IdleWatch, clock: Clock, audit: CallAudit) -> None:
        self._identify = identify
        self._clock = clock
        self._cap = cap
        self._watch = watch
        self._audit = audit

    def intercept_service(self, continuation: Any, details: Any) -> Any:
        """Wrap the method's handler, or refuse a method without a policy row."""
        row = POLICY.get(details.method)
        handler = continuation(details)
        if row is None or handler is None:
            return grpc.stream_unary_rpc_method_handler(self._unserved)
        return self._wrapped(handler, details.method, row)

    def _wrapped(self, handler: Any, method: str, row: Row) -> Any:
        """Every method, to gRPC, takes a stream of bytes, which on the wire is the same.

        gRPC's own unary form waits for the request on one of the server's threads, for ever and before anybody has
        asked who calls; and what it cannot parse it answers as a failure of the server's.
        """
        name = method.rpartition("/")[2]
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream

            def streaming(frames: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
                with self._guarded(name, row, context) as call:
                    # A write stream's frames are decoded by the codec, which leaves their data where it arrived.
                    yield from inner(frames if handler.request_streaming else _request(handler, frames, call), call)

            return grpc.stream_stream_rpc_method_handler(streaming, None, handler.response_serializer)

        def unary(frames: Iterator[bytes], context: grpc.ServicerContext) -> Any:
            with self._guarded(name, row, context) as call:
                with self._watch.watched(context):
                    request = _request(handler, frames, call)
                return handler.unary_unary(request, call)

        return grpc.stream_unary_rpc_method_handler(unary, None, handler.response_serializer)

    def _unserved(self, _frames: Iterator[bytes], context: grpc.ServicerContext) -> Any:
        """Refuse as gRPC does, and tell the audit log who asked; for what, is his own word and not repeated."""
        caller: Identity | None = None
        with suppress(KeysapartError):
            caller = self._identify(_certificate(context))
        self._audit(CallMade(_UNSERVED, caller, NotFoundError.reason, _connection(context)))
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "the target does not serve this method")

    @contextmanager
    def _guarded(self, name: str, row: Row, context: grpc.ServicerContext) -> Iterator[Call]:
        caller: Identity | None = None
        failure: KeysapartError | None = None
        facts = _connection(context)
        try:
            with ExitStack() as stack:
                certificate = _certificate(context)
                standing = Standing(lambda: self._identify(certificate), self._clock)
                caller = standing.identity
                _require_role(caller, row)
                tell = partial(self._tell, name, row, caller, facts)
                tell(ASKED)
                stack.enter_context(self._audit.acting(caller))
                if not row.streams:
                    stack.enter_context(self._cap.call(caller.tenant))
                else:
                    stack.enter_context(self._cap.slot(caller.tenant, name))
                    stack.enter_context(self._watch.watched(context, standing.require))
                yield Call(standing, name, context, facts, partial(tell, BEGUN))
                tell(OK)
        except KeysapartError as error:
            failure = error
        except grpc.RpcError as error:
            # gRPC's word on a client that went away in mid-stream: there is nobody left to tell.
            _log.info("call cut", method=name, tenant=caller and caller.tenant, cause=str(error))
            raise
        except Exception as error:
            if not context.is_active():
                _log.info("call cut", method=name, tenant=caller and caller.tenant)
                raise
            _log.error("unexpected failure", method=name, error=type(error).__name__, where=log.where(error))
            failure = InternalError(
                "the appliance failed unexpectedly", subject=name, next_step="report it with the appliance's log"
            )
        if row.audit or failure:
            _log.info(
                "call",
                method=name,
                tenant=caller and caller.tenant,
                agent=caller and caller.agent,
                outcome=failure.reason if failure else "ok",
                cause=failure.message if failure else None,
            )
        if failure:
            self._audit(CallMade(name, caller, failure.reason, {**facts, "cause": failure.message}))
            if isinstance(failure, CertificateError):
                # The reason is for our log; a stranger learns that he is refused, and no more.
                failure = CertificateError(
                    "the target does not accept this certificate",
                    subject="certificate",
                    next_step="have its operator look at the log, and issue one with target-appliance agents add",
                )
            try:
                abort(context, failure)
            finally:
                # Its traceback holds this frame: the two would keep gRPC's call until the collector comes, and gRPC
                # counts what is kept against the connection.
                del failure

    def _tell(self, name: str, row: Row, caller: Identity, facts: Mapping[str, Fact], outcome: str) -> None:
        if row.audit:
            self._audit(CallMade(name, caller, outcome, facts))


def _request(handler: Any, frames: Iterator[bytes], call: Call) -> Any:
    """The one request of a call. Raises ProtocolError: there is none, or it is no such message."""
    try:
        data = next(frames, None)
        if data is not None:
            return handler.request_deserializer(data)
    except DecodeError:
        pass
    raise ProtocolError(
        "a request arrived that is none", subject=call.method, next_step="upgrade the older of the two halves"
    )


def _connection(context: grpc.ServicerContext) -> dict[str, Fact]:
    """What TLS came to, and with whom. gRPC does not tell the cipher."""
    told: Any = context.auth_context()
    facts: dict[str, Fact] = {"peer": context.peer()}
    for name, fact in (("ssl_tls_version", "tls"), ("ssl_negotiated_key_exchange_group", "key_exchange")):
        if told.get(name):
            facts[fact] = told[name][0].decode("ascii", "replace")
    certificate = _certificate(context)
    if certificate:
        facts["certificate"] = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.decode("ascii"))).hexdigest()
    return facts


def _require_role(caller: Identity, row: Row) -> None:
    if caller.role not in row.roles:
        raise AccessDeniedError(
            f"a certificate for the role {caller.role} may not call this",
            subject=f"{caller.role} {caller.agent}",
            next_step=f"use one for the role {' or '.join(sorted(row.roles))}",
        )


def _certificate(context: grpc.ServicerContext) -> bytes:
    found: Any = context.auth_context().get("x509_pem_cert", [])
    return bytes(found[0]) if found else b""

"""The target as the agent sees it: every call with its deadline, every failure in our words.

One channel per process. gRPC's own retries are off: a stream cannot be retried once it has begun, and the unary calls
are repeated by whoever knows whether that is safe.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import grpc

from common.errors import CertificateError, KeysapartError, TargetUnavailableError
from common.ids import DiskKey, ReplicaId, SyncId
from common.status_map import from_rpc_error
from common.sync.codec import WRITE_METHOD
from common.tls import Identity, channel_credentials, explain_refusal
from common.wire.v1 import replication_pb2 as wire
from common.wire.v1 import replication_pb2_grpc as services
from source_agent.reduce.held import GrainSpan
from source_agent.stream.pace import Pace, unlimited

_CALL_SECONDS: Final = 30.0
"""No call goes on for longer. A commit on slow disks may: it is asked after then."""
_RENEW_SECONDS: Final = 8.0
_ABORT_SECONDS: Final = 5.0

_OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.keepalive_time_ms", 15_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.use_local_subchannel_pool", 1),
)


class Bearer:
    """Who new connections say they are. Whoever renews the certificate puts another identity here."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity


class Target:
    """A connection to a target appliance; close it when done."""

    def __init__(
        self, address: str, bearer: Identity | Bearer, server_name: str | None = None, pace: Pace | None = None
    ) -> None:
        self._address = address
        self._pace = pace
        self._bearer = bearer if isinstance(bearer, Bearer) else Bearer(bearer)
        self._left: grpc.Channel | None = None
        self._server_name = server_name
        self._options = [*_OPTIONS, *([("grpc.ssl_target_name_override", server_name)] if server_name else [])]
        self._open()

    def _open(self) -> None:
        credentials = channel_credentials(self._bearer.identity)
        self._channel = grpc.secure_channel(self._address, credentials, options=self._options)
        self._stub = services.ReplicationStub(self._channel)
        # Frames come from the codec as bytes; no serialiser copies them once more.
        self._write: Any = self._channel.stream_stream(WRITE_METHOD, None, wire.WriteAck.FromString)

    @property
    def subject(self) -> str:
        """The target, for errors."""
        return f"target {self._address}"

    def another(self) -> "Target":
        """A connection of its own to the same target, under the same bandwidth limit; the caller closes it."""
        return Target(self._address, self._bearer, self._server_name, self._pace)

    def reconnect(self) -> None:
        """Give up the connection with all calls on it, half-open ones too; the next call makes another."""
        old = self._channel
        self._open()
        old.close()

    def redial(self) -> None:
        """Make further calls over a new connection; calls under way end on the old one."""
        if self._left is not None:
            self._left.close()
        self._left = self._channel
        self._open()

    def trouble(self) -> KeysapartError | None:
        """Why the target does not talk to us; None when it does. Takes up to 15 seconds when nobody answers."""
        return explain_refusal(self._address, self._bearer.identity, self._server_name)

    def describe(self, replica: ReplicaId) -> wire.DescribeReplicaResponse:
        """What the target holds of a VM; raises whatever would refuse a sync now."""
        with self._in_our_words(dial=True):
            return self._stub.DescribeReplica(wire.DescribeReplicaRequest(replica=replica), timeout=_CALL_SECONDS)

    def renew_certificate(self, request: bytes) -> wire.RenewCertificateResponse:
        """A certificate for the key of ``request`` (PKCS #10, DER), in place of the one that this connection shows."""
        with self._in_our_words(dial=True):
            return self._stub.RenewCertificate(wire.RenewCertificateRequest(request=request), timeout=_CALL_SECONDS)

    def begin(self, request: wire.BeginSyncRequest) -> wire.BeginSyncResponse:
        """Open a sync."""
        with self._in_our_words(dial=True):
            return self._stub.BeginSync(request, timeout=_CALL_SECONDS)

    def resume(self, sync: SyncId, replica: ReplicaId) -> wire.ResumeSyncResponse:
        """How far a sync is after a cut; its streams are over."""
        request = wire.ResumeSyncRequest(sync=sync, replica=replica)
        with self._in_our_words(dial=True):
            return self._stub.ResumeSync(request, timeout=_CALL_SECONDS)

    def manifest(self, sync: SyncId, disk: DiskKey, wanted: Sequence[GrainSpan]) -> dict[int, bytes]:
        """Digests by grain of what the newest point holds of the spans ``wanted``; absent grains are zeros."""
        request = wire.GetManifestRequest(
            sync=sync, disk=disk, ranges=[wire.GrainRange(first=first, count=count) for first, count in wanted]
        )
        found: dict[int, bytes] = {}
        with self._in_our_words():
            for chunk in self._stub.GetManifest(request, timeout=_CALL_SECONDS):
                indices = memoryview(chunk.indices).cast("I")
                marks = chunk.digests
                found.update((index, marks[at * 16 : at * 16 + 16]) for at, index in enumerate(indices))
        return found

    def write(self, frames: Iterator[bytes], held: Callable[[], None] = unlimited) -> Any:
        """Start a write stream: an iterable of acks that can be cancelled; failures are for ``explain``.

        ``held`` is told again and again while the bandwidth limit holds a frame back.
        """
        try:
            if self._pace is None:
                return self._write(frames)
            over = threading.Event()
            call = self._write(self._pace.paced(frames, over.is_set, held))
        except ValueError as error:  # gRPC's word on a channel that was closed just now
            raise self._closed() from error
        if not call.add_callback(over.set):
            over.set()
        return call

    def renew(self, sync: SyncId) -> None:
        """Say that the sync is still at work."""
        with self._in_our_words():
            self._stub.RenewLease(wire.RenewLeaseRequest(sync=sync), timeout=_RENEW_SECONDS)

    def commit(self, sync: SyncId) -> wire.CommitSyncResponse:
        """Make the sync a point; when the answer takes too long, ``resume`` tells what became of it."""
        with self._in_our_words():
            return self._stub.CommitSync(wire.CommitSyncRequest(sync=sync), timeout=_CALL_SECONDS)

    def abort(self, sync: SyncId, cause: str) -> None:
        """Tell the target that the sync is over without a point; failing to tell is no harm, its lease lapses."""
        try:
            request = wire.AbortSyncRequest(sync=sync, cause=cause[:1024])
            self._stub.AbortSync(request, timeout=_ABORT_SECONDS)
        except (grpc.RpcError, ValueError):
            return

    def close(self) -> None:
        """Close the channel."""
        if self._left is not None:
            self._left.close()
        self._channel.close()

    @contextmanager
    def _in_our_words(self, *, dial: bool = False) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as error:
            found = self.explain(error)
            raise (self._dialled(found) if dial else found) from error
        except ValueError as error:  # gRPC's word on a channel that was closed just now
            raise self._closed() from error

    def explain(self, error: Any) -> KeysapartError:
        """The failure behind ``error``."""
        return from_rpc_error(error, subject=self.subject)

    def _dialled(self, found: KeysapartError) -> KeysapartError:
        """A connection that never stood is tried again for its reason."""
        if isinstance(found, TargetUnavailableError):
            reason = self.trouble()
            if isinstance(reason, (CertificateError, TargetUnavailableError)):
                return reason
        return found

    def _closed(self) -> KeysapartError:
        return TargetUnavailableError(
            "the connection to the target was given up", subject=self.subject, next_step="sync again"
        )

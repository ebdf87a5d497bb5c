"""Calls to a list of endpoints: connections kept for a while, one reconnect, failover, a deadline for the whole.

Key servers and what stands before them cut idle connections, some after 30 seconds: ours are dropped after 25.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from common import log
from common.address import HostPort
from common.clock import Clock
from common.errors import KmsUnavailableError
from target_appliance.kms.link.connection import BrokenError, Connection, GarbledError, Identity, Receive

_KEPT = 4

T = TypeVar("T")
_log = log.get("kms")


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds that things may take."""

    connect: float = 5.0
    """TCP and TLS handshake, per endpoint."""
    call: float = 10.0
    """A whole call, reconnect and failover included."""
    idle: float = 25.0
    """A connection unused for so long is not used again."""


class Pool:
    """Connections to servers that hold the same keys. Thread-safe: a connection serves one call at a time."""

    def __init__(
        self,
        endpoints: Sequence[HostPort],
        server_name: str | None,
        identity: Identity,
        clock: Clock,
        deadlines: Deadlines,
        *,
        next_step: str,
    ) -> None:
        self._endpoints = tuple(endpoints)
        self._server_name = server_name
        self._identity = identity
        self._clock = clock
        self._deadlines = deadlines
        self._next_step = next_step
        self._lock = threading.Lock()
        self._idle: list[tuple[Connection, float]] = []
        self._preferred = 0
        self._closed = False

    def call(self, request: bytes, read: Callable[[Receive], T], *, repeatable: bool = True) -> T:
        """Send ``request`` and return what ``read`` makes of the answer.

        Args:
            request: a whole message.
            read: takes the whole answer; raises GarbledError for bytes that are none, BrokenError for an endpoint that
                another may stand in for.
            repeatable: False for what must not happen twice: then it is sent once, over a fresh connection.

        Raises:
            KmsUnavailableError: no server answered properly in time; the reason of each is named.
        """
        deadline = self._clock.monotonic() + self._deadlines.call
        failures: dict[HostPort, str] = {}
        # A kept connection may have been cut meanwhile, so a failure on one says nothing of the server.
        attempts = [self._take_idle, self._connect] if repeatable else [self._connect]
        if repeatable and len(self._endpoints) > 1:
            attempts.append(self._connect)
        for connect in attempts:
            connection = connect(deadline, failures)
            if connection is None:
                continue
            try:
                answer = connection.exchange(request, read, self._attempt_deadline(deadline))
            except (BrokenError, GarbledError) as error:
                connection.close()
                self._failed(connection.endpoint, str(error), failures)
            except BaseException:
                # The answer was whole, so the connection is in step: what read made of it is the caller's affair.
                self._keep(connection)
                raise
            else:
                self._keep(connection)
                return answer
        raise self._unavailable(failures)

    def close(self) -> None:
        """Drop all kept connections; calls under way go on."""
        with self._lock:
            idle, self._idle, self._closed = self._idle, [], True
        for connection, _ in idle:
            connection.close()

    def _take_idle(self, _deadline: float, _failures: dict[HostPort, str]) -> Connection | None:
        """The connection used last, unless all have been idle for too long."""
        oldest = self._clock.monotonic() - self._deadlines.idle
        with self._lock:
            stale = [connection for connection, since in self._idle if since <= oldest]
            self._idle = [entry for entry in self._idle if entry[1] > oldest]
            taken = self._idle.pop()[0] if self._idle else None
        for connection in stale:
            connection.close()
        return taken

    def _connect(self, deadline: float, failures: dict[HostPort, str]) -> Connection | None:
        """A fresh connection to the first endpoint that takes one, beginning with the one that did last."""
        with self._lock:
            first = self._preferred
        for step in range(len(self._endpoints)):
            endpoint = self._endpoints[(first + step) % len(self._endpoints)]
            until = min(deadline, self._clock.monotonic() + self._deadlines.connect)
            try:
                connection = Connection.open(endpoint, self._server_name, self._identity, self._clock, until)
            except BrokenError as error:
                self._failed(endpoint, str(error), failures)
                continue
            with self._lock:
                self._preferred = self._endpoints.index(endpoint)
            return connection
        return None

    def _failed(self, endpoint: HostPort, reason: str, failures: dict[HostPort, str]) -> None:
        failures[endpoint] = reason
        with self._lock:
            if self._endpoints[self._preferred] == endpoint:
                self._preferred = (self._preferred + 1) % len(self._endpoints)
        _log.debug("KMS endpoint failed", endpoint=endpoint, reason=reason)

    def _attempt_deadline(self, deadline: float) -> float:
        """A server that takes a request and stays silent must leave time to ask another one."""
        if len(self._endpoints) == 1:
            return deadline
        return min(deadline, self._clock.monotonic() + self._deadlines.call / 2)

    def _keep(self, connection: Connection) -> None:
        with self._lock:
            keep = len(self._idle) < _KEPT and not self._closed
            if keep:
                self._idle.append((connection, self._clock.monotonic()))
        if not keep:
            connection.close()

    def _unavailable(self, failures: dict[HostPort, str]) -> KmsUnavailableError:
        reasons = "; ".join(
            f"{endpoint}: {failures.get(endpoint, 'not asked in time')}" for endpoint in self._endpoints
        )
        return KmsUnavailableError(
            f"the KMS does not answer properly ({reasons})",
            subject=f"kms {self._endpoints[0]}",
            next_step=self._next_step,
        )

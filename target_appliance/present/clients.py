"""The clients of a view: one thread each, and bounds on how many there are."""

import socket
import ssl
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from common import log
from common.clock import Clock
from common.closing import Closing
from common.errors import KeysapartError, LimitExceededError
from target_appliance.present.disk import LiveDisk
from target_appliance.present.handshake import Caller, Chosen, Door, choose, greet
from target_appliance.present.line import GoneError, LateError, Line
from target_appliance.present.protocol import MalformedError
from target_appliance.present.transmission import Transmission
from target_appliance.server.door import who_leaves

_log = log.get("present")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What clients may have."""

    strangers: int = 64
    """Connections before their export is chosen, of all together; the busiest address loses its oldest."""
    clients: int = 32
    """Connections that read, of all together."""
    of_one: int = 16
    """Connections that read, of one caller."""
    stranger_seconds: float = 10.0
    """From connecting to choosing an export."""
    take_seconds: float = 10.0
    """For the rest of a request that has begun."""
    give_seconds: float = 30.0
    """For taking what was asked for, a quarter of a MiB at a time."""


@dataclass
class _Client:
    address: str
    line: Line
    caller: Caller | None = None
    """Once it reads."""
    leaving: bool = False


class Clients(Closing):
    """All clients of one view. Thread-safe.

    Args:
        disks: by the names of their exports.
        door: decides who is let in.
        clock: for deadlines.
        bounds: see Bounds.
    """

    def __init__(self, disks: Mapping[str, LiveDisk], door: Door, clock: Clock, bounds: Bounds | None = None) -> None:
        self._disks = disks
        self._door = door
        self._clock = clock
        self._bounds: Final = bounds or Bounds()
        self._lock = threading.Lock()
        self._all: dict[threading.Thread, _Client] = {}
        self._stopping = threading.Event()
        self.served = 0
        """Connections that have come to read."""
        self.bytes_read = 0
        """By those that are over."""

    def enter(self, sock: socket.socket, address: str) -> None:
        """Serve a new connection, which is ours from now on, until it ends."""
        line = Line(sock, self._clock, self._bounds.take_seconds, self._bounds.give_seconds)
        client = _Client(address, line)
        thread = threading.Thread(target=self._run, args=(client,), name="nbd-client", daemon=True)
        with self._lock:
            if self._stopping.is_set():
                line.close()
                return
            self._all[thread] = client
            strangers = [one for one in self._all.values() if one.caller is None and not one.leaving]
            if len(strangers) > self._bounds.strangers:
                leaves = strangers[who_leaves([one.address for one in strangers])]
                leaves.leaving = True
                leaves.line.hang_up()
            thread.start()

    def require(self) -> None:
        """End those that are not let in any more; call it every few seconds."""
        with self._lock:
            reading = [one for one in self._all.values() if one.caller is not None]
        for client in reading:
            try:
                client.caller.require()  # type: ignore[union-attr]
            except KeysapartError as error:
                _log.warning("client cut", address=client.address, cause=error.message)
                client.line.hang_up()

    def close(self) -> None:
        """Answer what has come, take nothing else, and return when all are gone."""
        self._stopping.set()
        for end in (Line.end_input, Line.hang_up):
            with self._lock:
                left = dict(self._all)
            for client in left.values():
                end(client.line)
            until = self._clock.monotonic() + self._bounds.take_seconds
            for thread in left:
                thread.join(max(0.0, until - self._clock.monotonic()) if end is Line.end_input else None)

    def _run(self, client: _Client) -> None:
        cause: str | None = None
        try:
            self._serve(client)
        except GoneError:
            pass
        except (MalformedError, LateError) as error:
            cause = str(error)
        except KeysapartError as error:
            cause = error.message
        except ssl.SSLError as error:
            cause = f"TLS: {error.reason or 'failed'}"
        except Exception as error:  # noqa: BLE001  one client's end is not another's
            _log.error("unexpected failure", error=type(error).__name__, where=log.where(error))
        finally:
            client.line.close()
            with self._lock:
                del self._all[threading.current_thread()]
        if cause is not None:
            _log.warning("client cut", address=client.address, cause=cause)

    def _serve(self, client: _Client) -> None:
        line = client.line
        line.due = self._clock.monotonic() + self._bounds.stranger_seconds
        flags = greet(line)
        caller = self._door.enter(line, client.address)
        chosen = None if caller is None else choose(line, flags, self._disks)
        if caller is None or chosen is None:
            return
        line.due = None
        caller.begin(chosen.disk)
        self._count_in(client, caller)
        self._transmit(line, chosen, caller)

    def _transmit(self, line: Line, chosen: Chosen, caller: Caller) -> None:
        transmission = Transmission(line, chosen, caller.require, self._stopping.is_set)
        try:
            transmission.run()
        finally:
            with self._lock:
                self.bytes_read += transmission.bytes_read

    def _count_in(self, client: _Client, caller: Caller) -> None:
        with self._lock:
            reading = Counter(one.caller.name for one in self._all.values() if one.caller is not None)
            if reading.total() >= self._bounds.clients or reading[caller.name] >= self._bounds.of_one:
                raise LimitExceededError(
                    f"{caller.name} has too many connections open, or all have together",
                    subject=f"client {caller.name}",
                    next_step="close some",
                )
            client.caller = caller
            self.served += 1

"""A door before a port that strangers may use: it holds the connections, and bounds what each of them can cost.

gRPC takes whoever comes, until it has as many as it may: whoever keeps those busy keeps everybody else out. Here a
newcomer always gets in, and when it is full, the address with the most connections loses its oldest one. Bytes are
carried as they are, TLS and all, to a socket that only this process can reach.
"""

import asyncio
import ipaddress
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from common import log
from common.address import HostPort, split
from target_appliance.server.attempts import address_of

_PIECE: Final = 8 << 10
_BACKLOG: Final = 256
_WARN_SECONDS: Final = 60.0
_NAME: Final = "keysapart"
_log = log.get("door")


@dataclass(frozen=True, slots=True)
class Bounds:
    """What strangers may have: connections of all of them together, and of each one its life and bytes to us."""

    connections: int = 128
    seconds: float = 20.0
    bytes_in: int = 64 << 10


@contextmanager
def door(address: HostPort, onward: str, bounds: Bounds) -> Iterator[int]:
    """Carry connections from ``address`` to the Unix socket ``onward`` while the block runs; gives the port.

    Who listens at ``onward`` learns with ``stranger`` whom a connection is from.

    Raises:
        OSError: the port is taken, or the address is not this machine's.
    """
    listeners = _listen(address)
    loop, stopping = asyncio.new_event_loop(), asyncio.Event()
    carrier = _Carrier(onward, bounds)

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(carrier.serve(listeners, stopping))

    thread = threading.Thread(target=run, name="door")
    thread.start()
    try:
        yield listeners[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join()


def stranger(peer: str) -> str:
    """Whom gRPC's ``peer`` stands for behind a door, in gRPC's own words (``ipv4:192.0.2.1:5000``)."""
    return unquote(peer).partition("/")[2]


def who_leaves(addresses: Sequence[str]) -> int:
    """The place of the connection that has to go, of one or more, oldest first: the oldest of who has the most."""
    had = Counter(addresses)
    return max(range(len(addresses)), key=lambda place: (had[addresses[place]], -place))


class _Carrier:
    """All that runs in the loop."""

    def __init__(self, onward: str, bounds: Bounds) -> None:
        self._onward = onward
        self._bounds = bounds
        self._open: dict[asyncio.StreamWriter, str] = {}
        """Addresses, oldest connection first."""
        self._silent_until = 0.0

    async def serve(self, listeners: Sequence[socket.socket], stopping: asyncio.Event) -> None:
        """Until ``stopping``; what is open then ends with the loop."""
        servers = [
            await asyncio.start_server(self._enter, sock=one, limit=_PIECE, backlog=_BACKLOG) for one in listeners
        ]
        await stopping.wait()
        for server in servers:
            server.close()

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = _peer(writer)
        self._open[writer] = address_of(peer)
        if len(self._open) > self._bounds.connections:
            self._make_room()
        try:
            async with asyncio.timeout(self._bounds.seconds):
                await self._carry(peer, reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # cancelled by the loop's end alone, which then waits for nothing else
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    def _make_room(self) -> None:
        leaving = list(self._open)[who_leaves(list(self._open.values()))]
        address = self._open.pop(leaving)
        leaving.transport.abort()
        now = asyncio.get_running_loop().time()
        if now >= self._silent_until:
            self._silent_until = now + _WARN_SECONDS
            _log.warning("strangers crowd the port; the busiest address loses connections", address=address)

    async def _carry(self, peer: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            inner.setblocking(False)
            inner.bind(f"\0{_NAME}-{secrets.token_hex(8)}/{peer}")
            inner.connect(self._onward)
            inner_reader, inner_writer = await asyncio.open_unix_connection(sock=inner, limit=_PIECE)
        except BaseException:
            inner.close()
            raise
        pumps = (
            asyncio.create_task(_pump(reader, inner_writer, self._bounds.bytes_in)),
            asyncio.create_task(_pump(inner_reader, writer, None)),
        )
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            inner_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None) -> None:
    """Until either side is gone, or ``most`` bytes are through."""
    writer.transport.set_write_buffer_limits(0)  # so that what was drained has gone
    carried = 0
    with suppress(OSError):
        while data := await reader.read(_PIECE):
            carried += len(data)
            if most is not None and carried > most:
                return
            writer.write(data)
            await writer.drain()


def _peer(writer: asyncio.StreamWriter) -> str:
    host, port = writer.get_extra_info("peername")[:2]
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else address
    return f"ipv4:{mapped}:{port}" if mapped else f"ipv6:[{address}]:{port}"


def _listen(address: HostPort) -> list[socket.socket]:
    """Like gRPC: on all that the name stands for, and for both families where it stands for any address."""
    host, port = split(address)
    if host in ("0.0.0.0", "::") and socket.has_dualstack_ipv6():  # noqa: S104  asked for by the configuration
        return [socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=_BACKLOG)]
    made: list[socket.socket] = []
    try:
        for family, _kind, _protocol, _name, found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            chosen = port or (made[0].getsockname()[1] if made else 0)
            made.append(socket.create_server((found[0], chosen), family=family, backlog=_BACKLOG))
    except OSError:
        for one in made:
            one.close()
        raise
    return made

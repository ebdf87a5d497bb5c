"""How often strangers may fail: a bucket for each address, and one over all. Pure but for its lock."""

import ipaddress
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from common.clock import Clock
from common.errors import Fault, KeysapartError, LimitExceededError

_MOST_PEERS: Final = 4096
"""Addresses that are remembered; the one that was quiet for longest is forgotten first."""


@dataclass(frozen=True, slots=True)
class Rates:
    """So many failures at once, and one more each so many seconds."""

    peer_burst: float = 10
    peer_seconds: float = 6
    all_burst: float = 100
    all_seconds: float = 0.5


class Attempts:
    """Counts failures. An attempt that succeeds costs nothing: its token was the operator's."""

    def __init__(self, clock: Clock, rates: Rates) -> None:
        self._clock = clock
        self._rates = rates
        self._lock = threading.Lock()
        self._all = _Bucket(rates.all_burst, clock.monotonic())
        self._peers: OrderedDict[str, _Bucket] = OrderedDict()

    @contextmanager
    def attempt(self, peer: str) -> Iterator[None]:
        """Run the block as one attempt from ``peer``, gRPC's name of an address.

        Raises:
            LimitExceededError: it, or everybody together, failed too often.
        """
        address = address_of(peer)
        self._take(address)
        try:
            yield
        except KeysapartError as error:
            if error.fault is not Fault.CALLER:
                self._give_back(address)
            raise
        else:
            self._give_back(address)

    def _take(self, address: str) -> None:
        rates, now = self._rates, self._clock.monotonic()
        with self._lock:
            mine = self._peers.pop(address, None) or _Bucket(rates.peer_burst, now)
            self._peers[address] = mine
            if len(self._peers) > _MOST_PEERS:
                self._peers.popitem(last=False)
            mine.fill(now, rates.peer_burst, rates.peer_seconds)
            self._all.fill(now, rates.all_burst, rates.all_seconds)
            if mine.level < 1 or self._all.level < 1:
                raise LimitExceededError(
                    "there were too many attempts to pair", subject="pairing", next_step="try again in a minute"
                )
            mine.level -= 1
            self._all.level -= 1

    def _give_back(self, address: str) -> None:
        with self._lock:
            self._all.level += 1
            if address in self._peers:
                self._peers[address].level += 1


@dataclass(slots=True)
class _Bucket:
    level: float
    filled: float

    def fill(self, now: float, most: float, seconds: float) -> None:
        self.level = min(most, self.level + (now - self.filled) / seconds)
        self.filled = now


def address_of(peer: str) -> str:
    """The part of an address that one stranger has: an IPv4 address, or an IPv6 network of 64 bits."""
    kind, _, rest = peer.partition(":")
    host = rest.rpartition(":")[0]
    if kind != "ipv6":
        return host
    try:
        address = ipaddress.IPv6Address(unquote(host).strip("[]").partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped
    return str(mapped) if mapped else str(ipaddress.IPv6Network((address, 64), strict=False))

"""Which TLS versions and ciphers a port takes, asked with hellos: no certificate is shown, no handshake is ended."""

import socket
import ssl
import struct
import warnings
from typing import Any, Final

from common.address import split

VERSIONS: Final = {
    "TLSv1.3": ssl.TLSVersion.TLSv1_3,
    "TLSv1.2": ssl.TLSVersion.TLSv1_2,
    "TLSv1.1": ssl.TLSVersion.TLSv1_1,
    "TLSv1": ssl.TLSVersion.TLSv1,
}
_SECONDS: Final = 5.0
_HANDSHAKE, _SERVER_HELLO = 22, 2
_RANDOM_END: Final = 1 + 3 + 2 + 32
_ANY: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  where a port that listens everywhere is dialled


def probe(address: str) -> dict[str, list[str]]:
    """By version the ciphers that the port at ``address`` takes, preferred ones first; an empty list: none.

    TLS 1.3 is asked once, with all ciphers: the answer is the one that the port prefers.

    Raises:
        OSError: nobody listens there.
    """
    host, port = split(address)
    place = (_ANY.get(host, host), port)
    return {name: _taken(place, version) for name, version in VERSIONS.items()}


def _taken(place: tuple[str, int], version: ssl.TLSVersion) -> list[str]:
    taken: list[str] = []
    offered = _context(version, "ALL:@SECLEVEL=0")
    names = {cipher["id"] & 0xFFFF: cipher["name"] for cipher in offered.get_ciphers()}
    while names:
        chosen = _chosen(place, offered)
        if chosen is None or chosen not in names:
            break
        taken.append(names.pop(chosen))
        if version is ssl.TLSVersion.TLSv1_3:
            break
        left = [name for name in names.values() if not name.startswith("TLS_")]
        if not left:
            break
        offered = _context(version, f"{':'.join(left)}:@SECLEVEL=0")
    return taken


def _context(version: ssl.TLSVersion, ciphers: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is sent to whoever answers, and nothing of what it says is believed but its choice.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are asked for to see them refused
        context.set_ciphers(ciphers)
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = version
        context.minimum_version = version
    context.set_alpn_protocols(["h2"])
    return context


def _chosen(place: tuple[str, int], context: ssl.SSLContext) -> int | None:
    """The number of the cipher that the port chooses; None when it refuses."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client: Any = context.wrap_bio(incoming, outgoing)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    except ssl.SSLError:  # this machine's library does not speak the version itself
        return None
    with socket.create_connection(place, timeout=_SECONDS) as connection:
        connection.sendall(outgoing.read())
        try:
            kind, _, length = struct.unpack(">BHH", _exactly(connection, 5))
            hello = _exactly(connection, length)
        except (EOFError, ConnectionResetError, TimeoutError):
            return None
    if kind != _HANDSHAKE or hello[:1] != bytes([_SERVER_HELLO]) or len(hello) < _RANDOM_END + 1:
        return None
    cipher = _RANDOM_END + 1 + hello[_RANDOM_END]
    return int.from_bytes(hello[cipher : cipher + 2], "big")


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        piece = connection.recv(count - len(found))
        if not piece:
            raise EOFError
        found += piece
    return found

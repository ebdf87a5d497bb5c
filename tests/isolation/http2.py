"""HTTP as anybody could write it by hand, so that requests are made which no gRPC client would make.

Answers are the bytes of the wire: two that are equal tell their readers the same, whatever they mean.
"""

import socket
from collections.abc import Iterator

from tests.hostile.http2 import (
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    GRPC,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
    headers,
)

_SECONDS = 20.0
EMPTY = bytes(5)
"""A gRPC message of no bytes: Check of the whole."""
Fields = tuple[tuple[bytes, bytes], ...]


def http1(port: int, request: bytes) -> bytes:
    """All that the port answers to ``request`` until it hangs up."""
    with socket.create_connection(("127.0.0.1", port), _SECONDS) as link:
        link.sendall(request)
        return b"".join(iter(lambda: _received(link), b""))


def http2(port: int, method: bytes, path: bytes, fields: Fields = GRPC, body: bytes = EMPTY) -> bytes:
    """The frames of the answer to one request, on a connection of its own, up to the end of the stream."""
    block = headers(path, fields, method, b"http")
    request = frame(SETTINGS, 0, 0, b"") + frame(HEADERS, END_HEADERS, 1, block)
    with socket.create_connection(("127.0.0.1", port), _SECONDS) as link:
        link.sendall(PREFACE + request + frame(DATA, END_STREAM, 1, body))
        return b"".join(_answer(link))


def _answer(link: socket.socket) -> Iterator[bytes]:
    held = b""
    while piece := _received(link):
        held += piece
        while len(held) >= 9 and len(held) >= (end := 9 + int.from_bytes(held[:3], "big")):
            whole, held = held[:end], held[end:]
            kind, flags, stream = whole[3], whole[4], int.from_bytes(whole[5:9], "big")
            if stream == 1 or kind == GOAWAY:
                yield whole
            if stream == 1 and (kind == RST_STREAM or (kind in {DATA, HEADERS} and flags & END_STREAM)):
                return


def _received(link: socket.socket) -> bytes:
    try:
        return link.recv(1 << 16)
    except ConnectionResetError:
        return b""

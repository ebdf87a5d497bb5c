"""HTTP as anybody could write it by hand, so that requests are made which no gRPC client would make.

Answers are the bytes of the wire: two that are equal tell their readers the same, whatever they mean.
"""

import socket
from collections.abc import Iterator

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _GOAWAY = 0, 1, 3, 4, 7
_END_STREAM, _END_HEADERS = 1, 4
_SECONDS = 20.0
EMPTY = bytes(5)
"""A gRPC message of no bytes: Check of the whole."""
Fields = tuple[tuple[bytes, bytes], ...]
GRPC: Fields = ((b"content-type", b"application/grpc"), (b"te", b"trailers"))


def http1(port: int, request: bytes) -> bytes:
    """All that the port answers to ``request`` until it hangs up."""
    with socket.create_connection(("127.0.0.1", port), _SECONDS) as link:
        link.sendall(request)
        return b"".join(iter(lambda: _received(link), b""))


def http2(port: int, method: bytes, path: bytes, fields: Fields = GRPC, body: bytes = EMPTY) -> bytes:
    """The frames of the answer to one request, on a connection of its own, up to the end of the stream."""
    head = ((b":method", method), (b":scheme", b"http"), (b":path", path), (b":authority", b"localhost"), *fields)
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in head)
    request = _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_HEADERS, 1, block)
    with socket.create_connection(("127.0.0.1", port), _SECONDS) as link:
        link.sendall(_PREFACE + request + _frame(_DATA, _END_STREAM, 1, body))
        return b"".join(_answer(link))


def _answer(link: socket.socket) -> Iterator[bytes]:
    held = b""
    while piece := _received(link):
        held += piece
        while len(held) >= 9 and len(held) >= (end := 9 + int.from_bytes(held[:3], "big")):
            frame, held = held[:end], held[end:]
            kind, flags, stream = frame[3], frame[4], int.from_bytes(frame[5:9], "big")
            if stream == 1 or kind == _GOAWAY:
                yield frame
            if stream == 1 and (kind == _RST or (kind in {_DATA, _HEADERS} and flags & _END_STREAM)):
                return


def _received(link: socket.socket) -> bytes:
    try:
        return link.recv(1 << 16)
    except ConnectionResetError:
        return b""


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _text(text: bytes) -> bytes:
    """HPACK's string literal, without Huffman's code (RFC 7541, 5.1 and 5.2)."""
    if len(text) < 127:
        return bytes([len(text)]) + text
    more, length = len(text) - 127, bytearray([127])
    while more >= 128:
        length.append(more % 128 + 128)
        more //= 128
    return bytes(length) + bytes([more]) + text

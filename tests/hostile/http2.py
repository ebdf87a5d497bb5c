"""HTTP/2 by hand (RFC 9113, with RFC 7541's literals), for what no gRPC client sends."""

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS = 1, 4
GRPC = ((b"te", b"trailers"), (b"content-type", b"application/grpc"))


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame; ``payload`` may be longer than the other side allows."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header, spelt out, of any length."""
    return b"\0" + _text(name) + _text(value)


def headers(
    path: bytes, fields: tuple[tuple[bytes, bytes], ...] = GRPC, method: bytes = b"POST", scheme: bytes = b"https"
) -> bytes:
    """Those of a request."""
    told = ((b":method", method), (b":scheme", scheme), (b":path", path), (b":authority", b"localhost"), *fields)
    return b"".join(literal(name, value) for name, value in told)


def _text(text: bytes) -> bytes:
    """A string literal, without Huffman's code (RFC 7541, 5.1 and 5.2)."""
    if len(text) < 127:
        return bytes((len(text),)) + text
    left, length = len(text) - 127, bytearray((127,))
    while left >= 128:
        length.append(left % 128 + 128)
        left //= 128
    return bytes((*length, left)) + text

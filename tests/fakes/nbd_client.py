"""An NBD client that asks for anything, well formed or not; written from the protocol, it imports nothing of ours."""

import socket
import ssl
import struct

GO, INFO, LIST, EXPORT_NAME, ABORT, STARTTLS, STRUCTURED, LIST_META, SET_META = 7, 6, 3, 1, 2, 5, 8, 9, 10
READ, WRITE, DISC, FLUSH, TRIM, CACHE, ZEROES, STATUS = range(8)
ACK, SERVER, INFO_REPLY, META = 1, 2, 3, 4
UNSUPPORTED, POLICY, INVALID, TLS_REQUIRED, UNKNOWN = ((1 << 31) + n for n in (1, 2, 3, 5, 6))
DF, ONE = 4, 8
EPERM, EIO, EINVAL, EOVERFLOW, ESHUTDOWN = 1, 5, 22, 75, 108


class ServerError(Exception):
    """The server answered a command with an error."""

    def __init__(self, number, offset=None):
        super().__init__(f"error {number} at {offset}")
        self.number = number
        self.offset = offset


class NbdClient:
    """One connection. Not checked: what the test itself looks at."""

    def __init__(self, address, *, flags=3, greet=True):
        family = socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.connect(address)
        self.sock.settimeout(30)
        self.structured = False
        self.chunks = []
        """Type, offset and length of the chunks of the last reply."""
        if greet:
            assert self.take(18) == b"NBDMAGICIHAVEOPT\x00\x03"
            self.sock.sendall(struct.pack(">I", flags))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def take(self, length):
        found = b""
        while len(found) < length:
            data = self.sock.recv(length - len(found))
            if not data:
                raise EOFError
            found += data
        return found

    def gone(self):
        """Whether the server has hung up; waits for what it does."""
        try:
            while self.sock.recv(1 << 16):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        return True

    def option(self, number, data=b""):
        """Send an option; the answers up to the last one: (kind, data)."""
        self.sock.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)
        answers = []
        while True:
            magic, echoed, kind, length = struct.unpack(">QIII", self.take(20))
            assert (magic, echoed) == (0x3E889045565A9, number)
            answers.append((kind, self.take(length)))
            if kind not in {SERVER, INFO_REPLY, META}:
                return answers

    def go(self, name="", *, structured=True, status=True):
        """Choose an export; its size."""
        if structured:
            assert self.option(STRUCTURED) == [(ACK, b"")]
            self.structured = True
            if status:
                assert self.option(SET_META, contexts(name, "base:allocation"))[-1][0] == ACK
        answers = self.option(GO, string(name) + b"\0\0")
        assert answers[-1] == (ACK, b""), answers
        size, self.flags = next(
            struct.unpack(">QH", data[2:]) for kind, data in answers if kind == INFO_REPLY and data[:2] == b"\0\0"
        )
        return size

    def send(self, command, offset=0, length=0, flags=0, data=b"", *, magic=0x25609513):
        self.sock.sendall(struct.pack(">IHHQQI", magic, flags, command, 0xC00C1E, offset, length) + data)

    def ask(self, command, offset=0, length=0, flags=0, data=b""):
        """A command and its reply: bytes read, or extents."""
        self.send(command, offset, length, flags, data)
        return self.reply(offset, length if command == READ else 0)

    def read(self, offset, length, flags=0):
        return self.ask(READ, offset, length, flags)

    def reply(self, offset=0, length=0):
        if not self.structured:
            magic, error, cookie = struct.unpack(">IIQ", self.take(16))
            assert (magic, cookie) == (0x67446698, 0xC00C1E)
            if error:
                raise ServerError(error)
            return self.take(length)
        found, covered, extents, self.chunks = bytearray(length), 0, None, []
        while True:
            magic, flags, kind, cookie, size = struct.unpack(">IHHQI", self.take(20))
            assert (magic, cookie) == (0x668E33EF, 0xC00C1E)
            payload = self.take(size)
            if kind == 1:
                (at,) = struct.unpack_from(">Q", payload)
                found[at - offset : at - offset + size - 8] = payload[8:]
                covered += size - 8
                self.chunks.append(("data", at, size - 8))
            elif kind == 2:
                at, hole = struct.unpack(">QI", payload)
                covered += hole
                self.chunks.append(("hole", at, hole))
            elif kind == 5:
                assert struct.unpack_from(">I", payload) == (1,)
                extents = list(struct.iter_unpack(">II", payload[4:]))
            elif kind & 1 << 15:
                number, told = struct.unpack_from(">IH", payload)
                raise ServerError(number, struct.unpack(">Q", payload[6 + told :])[0] if kind & 2 else None)
            if flags & 1:
                assert covered == length == len(found)
                return bytes(found) if extents is None else extents


def string(text):
    return struct.pack(">I", len(text.encode())) + text.encode()


def contexts(name, *queries):
    return string(name) + struct.pack(">I", len(queries)) + b"".join(map(string, queries))

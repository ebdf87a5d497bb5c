"""What the guest's files hold, by seed: pages of a database, lines of a log, the next version of a program. Pure."""

import struct
from collections.abc import Iterator

import numpy as np

PAGE_BYTES = 16384
_PAGE_HEADER = struct.Struct(">IIQ")  # checksum, page number, log sequence number
_PAGE_TRAILER = struct.Struct(">IQ")
_FILL = 0.75  # of a page; the rest is room for later rows, and zeros
ROW_BYTES = 144
_ROWS = int((PAGE_BYTES - _PAGE_HEADER.size - _PAGE_TRAILER.size) * _FILL) // ROW_BYTES

_NAMES = [
    "Anders",
    "Beatriz",
    "Chen",
    "Dalia",
    "Emeka",
    "Fatima",
    "Goran",
    "Hana",
    "Ivan",
    "Jamila",
    "Kofi",
    "Lena",
    "Mateo",
    "Nadia",
    "Olu",
    "Priya",
    "Quentin",
]
_STREETS = [
    "Harbour",
    "Mill",
    "Station",
    "Church",
    "Orchard",
    "Castle",
    "Bridge",
    "Garden",
    "Market",
    "Forest",
    "Ring",
    "School",
]
_CITIES = [
    "Lisbon",
    "Hamburg",
    "Gdansk",
    "Leeds",
    "Nantes",
    "Turin",
    "Zagreb",
    "Malmo",
    "Plovdiv",
    "Cork",
    "Utrecht",
    "Graz",
]
_STATES = ["open", "paid", "packed", "shipped", "returned", "cancelled"]
_SERVICES = ["sshd", "nginx", "postfix", "cron", "kernel", "app-api", "app-worker", "dockerd"]
_VERBS = ["GET", "POST", "PUT", "DELETE"]


def row(rng: np.random.Generator, key: int) -> bytes:
    """One order: text and numbers, of which a random token of 32 bytes, an amount and a time do not compress."""
    name, street, city, state = (words[rng.integers(len(words))] for words in (_NAMES, _STREETS, _CITIES, _STATES))
    text = f"{name} {_NAMES[rng.integers(len(_NAMES))]}|{rng.integers(1, 200)} {street} Street|{city}|{state}"
    body = struct.pack(">QQd", key, 1_700_000_000 + int(rng.integers(30_000_000)), rng.random() * 500)
    body += rng.bytes(32) + f"{text}|{name.lower()}.{key}@example.net".encode()
    return body[:ROW_BYTES].ljust(ROW_BYTES, b"\0")


def page(rng: np.random.Generator, number: int) -> bytes:
    """A page as a table's load leaves it."""
    rows = b"".join(row(rng, number * _ROWS + place) for place in range(_ROWS))
    return _sealed(rows, number, int(rng.integers(1 << 40)))


def updated(rng: np.random.Generator, old: bytes, number: int) -> tuple[bytes, bytes]:
    """The page after one to four of its rows changed, and the changed rows, which go to the redo log."""
    rows = bytearray(old[_PAGE_HEADER.size : _PAGE_HEADER.size + _ROWS * ROW_BYTES])
    redo = b""
    for place in rng.choice(_ROWS, int(rng.integers(1, 5)), replace=False):
        new = row(rng, number * _ROWS + int(place))
        rows[place * ROW_BYTES : (place + 1) * ROW_BYTES] = new
        redo += new
    return _sealed(bytes(rows), number, int(rng.integers(1 << 40, 1 << 41))), redo


def _sealed(rows: bytes, number: int, sequence: int) -> bytes:
    checksum = (sum(rows) * 2654435761 + sequence) & 0xFFFFFFFF
    head = _PAGE_HEADER.pack(checksum, number, sequence) + rows
    return head.ljust(PAGE_BYTES - _PAGE_TRAILER.size, b"\0") + _PAGE_TRAILER.pack(checksum, sequence)


def hot_pages(rng: np.random.Generator, pages: int, writes: int) -> Iterator[int]:
    """``writes`` page numbers; four of five fall into a fifth of the table, as keys of a busy table do."""
    hot = pages // 5
    for _ in range(writes):
        yield int(rng.integers(hot) if rng.random() < 0.8 else rng.integers(hot, pages))


def log_lines(rng: np.random.Generator, length: int) -> bytes:
    """``length`` bytes of a system's log."""
    lines, have, second = [], 0, int(rng.integers(86_400))
    while have < length:
        second += int(rng.integers(3))
        service = _SERVICES[rng.integers(len(_SERVICES))]
        line = (
            f"2026-03-14T{second // 3600 % 24:02}:{second // 60 % 60:02}:{second % 60:02}.{rng.integers(10**6):06}"
            f"+00:00 web01 {service}[{rng.integers(300, 33_000)}]: {_VERBS[rng.integers(4)]}"
            f" /api/v2/orders/{rng.integers(10**7)} from 10.{rng.integers(256)}.{rng.integers(256)}.{rng.integers(256)}"
            f" status={(200, 200, 200, 304, 404, 500)[rng.integers(6)]} bytes={rng.integers(90_000)}"
            f" request={rng.bytes(8).hex()}\n"
        )
        lines.append(line)
        have += len(line)
    return "".join(lines).encode()[:length]


def next_version(rng: np.random.Generator, old: bytes) -> bytes:
    """A file of the next release: some bytes more at the front, one run of 64 bytes in twenty is another of the file.

    It compresses as the old one did, and no 64 KiB of it equal any of the old one.
    """
    runs = len(old) // 64
    new = bytearray(old)
    if runs > 1:
        content = np.frombuffer(new, np.uint8, runs * 64).reshape(runs, 64)
        changed = rng.choice(runs, max(1, runs // 20), replace=False)
        content[changed] = content[rng.integers(0, runs, len(changed))]
    return old[: int(rng.integers(1, 300))] + bytes(new)

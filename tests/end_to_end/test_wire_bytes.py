"""A delta sends what changed and nothing else, by the agent's own word and counted from outside."""

import random
from pathlib import Path

import pytest

from common.lz4_block import compress_into
from tests.end_to_end.pair import Pair
from tests.end_to_end.relay import relayed

pytestmark = pytest.mark.lab

GRAIN = 65536
MIB = 1 << 20
MOST = 1.05
HANDSHAKES = 16 << 10
"""What certificates, both ways, and the calls around the stream may take on the socket."""
TLS_RECORDS = 1.004
"""TLS 1.3 adds 22 bytes to at most 16 KiB, HTTP/2 9 bytes to at most 16 KiB."""


def grains(image: Path) -> list[bytes]:
    data = image.read_bytes()
    return [data[at : at + GRAIN].ljust(GRAIN, b"\0") for at in range(0, len(data), GRAIN)]


def compressed(grain: bytes) -> int:
    """What a grain takes on the wire at the agent's setting: nothing for zeros, else LZ4 if that is shorter."""
    if not any(grain):
        return 0
    return compress_into(memoryview(grain), memoryview(bytearray(GRAIN - 1))) or GRAIN


def changed(before: dict[int, Path], after: dict[int, Path]) -> list[bytes]:
    """The new content of all grains that differ between two sets of images."""
    return [
        new for key in after for old, new in zip(grains(before[key]), grains(after[key]), strict=True) if old != new
    ]


def test_a_delta_sends_the_changed_grains_and_no_more(embedded_pair: Pair, tmp_path: Path) -> None:
    lab, rng = embedded_pair.lab, random.Random(20260805)
    big, odd = lab.guest("web01", 2000), lab.guest("web01", 2001)
    # Trackers report in units of their own: here in MiB, of which a write changes one grain.
    lab.control("tracking-unit", MIB)
    with relayed(lab) as relay:
        embedded_pair.sync("web01")
        before = lab.image("web01", tmp_path / "before")
        for disk in (big, odd):
            for place in rng.sample(range(disk.size // GRAIN), 40):
                words = b" ".join(rng.randbytes(3).hex().encode() for _ in range(4000))
                disk.write(place * GRAIN + 512 * rng.randrange(64), rng.choice((words, rng.randbytes(20000)))[:20000])
            disk.write(disk.size - 512, rng.randbytes(512))
        big.write(5 * GRAIN, bytes(GRAIN))
        # Reported, though nothing changed: no write at all, and the same bytes again.
        odd.touch(0, odd.size)
        same = big.read(0, 4 * MIB)
        big.write(0, same)
        after = lab.image("web01", tmp_path / "after")
        relay.reset()
        report = embedded_pair.sync("web01")
        socket_bytes = relay.to_target

    new = changed(before, after)
    least = sum(compressed(grain) for grain in new)
    print(
        f"{len(new)} changed grains, {least} bytes compressed; agent says {report['bytes_sent']}"
        f" ({report['bytes_sent'] / least:.4f}), socket {socket_bytes} ({socket_bytes / least:.4f})"
    )
    assert report["kind"] == "delta"
    assert least > MIB
    assert sum(disk["grains_sent"] for disk in report["disks"]) == len(new)
    assert least < report["bytes_sent"] <= MOST * least
    assert sum(disk["grains_unchanged"] for disk in report["disks"]) > 2 * len(new)
    assert report["bytes_sent"] < socket_bytes <= TLS_RECORDS * MOST * least + HANDSHAKES


def test_a_report_of_changes_that_are_none_sends_no_grain(embedded_pair: Pair) -> None:
    lab = embedded_pair.lab
    disk = lab.guest("plain01", 2000)
    with relayed(lab) as relay:
        embedded_pair.sync("plain01")
        disk.touch(0, disk.size)
        disk.write(0, disk.read(0, disk.size))
        relay.reset()
        report = embedded_pair.sync("plain01")
        socket_bytes = relay.to_target
    print(f"agent says {report['bytes_sent']}, socket {socket_bytes}")
    assert report["kind"] == "delta"
    assert report["bytes_read"] == disk.size
    assert [one["grains_sent"] for one in report["disks"]] == [0]
    assert report["bytes_sent"] < 1024
    assert socket_bytes <= HANDSHAKES

"""100,000 mutants each of frames and LZ4 blocks, through the receiver and the real codec.

In this process, because a process boundary would only make it slow: what the receiver raises becomes a status through
one table, the edge's, and fewer mutants go through a serving appliance in ``tests/end_to_end/test_hostile_frames.py``.
"""

import random
from collections import Counter
from collections.abc import Iterable

import grpc
import lz4.block
import pytest

from common.errors import KeysapartError
from common.grain import GRAIN_BYTES, ZERO_DIGEST, GrainKind, digest
from common.ids import DiskKey, SyncId
from common.status_map import STATUS
from common.sync import codec
from common.sync.events import Batch, Done, GrainRecord, Open
from target_appliance.receive.receiver import receive
from tests.end_to_end.random_guest import seed
from tests.hostile.bounds import bounded_memory
from tests.hostile.mutate import mutated

pytestmark = pytest.mark.usefixtures("uncovered")

MUTANTS = 100_000
WARM = 2_000
SYNC = SyncId("5d1e4f8c-6f6d-4b3a-9d0e-0a1b2c3d4e5f")
TEXT = (b"what a guest writes, again and again; " * 2000)[:GRAIN_BYTES]
OTHER = bytes(range(256)) * 256
CALLERS_FAULT = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.DATA_LOSS}


class Kept:
    """A stream's sync and disk: remembers what it was given, and whether the disk became complete."""

    def __init__(self) -> None:
        self.records: list[GrainRecord] = []
        self.complete = False

    def open(self, event: Open) -> tuple["Kept", int]:
        return self, 16 << 20

    def take(self, data_bytes: int) -> None:
        pass

    def append(self, records: list[GrainRecord]) -> None:
        self.records += records

    def sync(self) -> None:
        pass

    def finish(self) -> None:
        pass

    def finished(self) -> None:
        self.complete = True

    def cut(self) -> None:
        pass


def packed(grain: int, content: bytes) -> GrainRecord:
    return GrainRecord(grain, GrainKind.LZ4, digest(content), lz4.block.compress(content, store_size=False))


EVENTS = (
    Open(SYNC, DiskKey(2000)),
    Batch(1, [packed(0, TEXT), GrainRecord(7, GrainKind.ZERO, ZERO_DIGEST, b""), packed(9, OTHER)]),
    Batch(2, [packed(12, OTHER)]),
    Done(2, 4),
)
FRAMES = tuple(codec.encode(event) for event in EVENTS)
NOISE = random.Random(1).randbytes(GRAIN_BYTES)
NOISY = codec.encode(Batch(1, [GrainRecord(0, GrainKind.RAW, digest(NOISE), NOISE)]))
"""A frame of 64 KiB, which is tried less often."""


def sent(frames: Iterable[bytes]) -> tuple[grpc.StatusCode, Kept]:
    """How a stream ends; whatever is not in our error tree is a crash, and fails the test."""
    kept = Kept()
    try:
        for _ack in receive(frames, kept):
            pass
    except KeysapartError as error:
        assert not kept.complete
        return STATUS[type(error)], kept
    assert kept.complete
    return grpc.StatusCode.OK, kept


def sound(records: Iterable[GrainRecord]) -> bool:
    """Whether every record holds 64 KiB of its digest, by other means than the receiver's."""
    return all(record.kind is GrainKind.ZERO or digest(_plain(record)) == record.digest for record in records)


def _plain(record: GrainRecord) -> bytes:
    if record.kind is GrainKind.RAW:
        return bytes(record.data)
    return bytes(lz4.block.decompress(bytes(record.data), uncompressed_size=GRAIN_BYTES))


def test_what_is_mutated_is_good() -> None:
    code, kept = sent(FRAMES)
    assert code is grpc.StatusCode.OK
    assert [record.grain for record in kept.records] == [0, 7, 9, 12]
    assert sound(kept.records)
    assert sent([FRAMES[0], NOISY, codec.encode(Done(1, 1))])[0] is grpc.StatusCode.OK


@pytest.mark.timeout(900)
def test_mutated_frames() -> None:
    rng = random.Random(seed())
    _frames(rng, WARM)
    with bounded_memory():
        ended = _frames(rng, MUTANTS)
    print(f"{MUTANTS} frames: {dict(ended)}")
    assert ended["DATA_LOSS"] > MUTANTS // 2


def _frames(rng: random.Random, count: int) -> Counter[str]:
    ended: Counter[str] = Counter()
    for number in range(count):
        frames = list(FRAMES)
        place = rng.randrange(len(frames))
        if number % 50 == 0:
            frames[1:] = [NOISY, codec.encode(Done(1, 1))]
            place = 1
        frames[place] = mutated(rng, frames[place], rng.choice(FRAMES))
        code, kept = sent(frames)
        ended[code.name] += 1
        # Without TLS a changed place or number can make another good stream; never one with other content.
        assert code in CALLERS_FAULT or (code is grpc.StatusCode.OK and sound(kept.records)), frames[place][:80]
    return ended


@pytest.mark.timeout(900)
def test_mutated_lz4_blocks() -> None:
    rng = random.Random(seed())
    blocks = [(content, bytes(packed(0, content).data)) for content in (TEXT, OTHER, bytes(GRAIN_BYTES))]
    _blocks(rng, blocks, WARM)
    with bounded_memory():
        ended = _blocks(rng, blocks, MUTANTS)
    print(f"{MUTANTS} LZ4 blocks: {dict(ended)}")
    assert ended["DATA_LOSS"] > MUTANTS * 0.99


def _blocks(rng: random.Random, blocks: list[tuple[bytes, bytes]], count: int) -> Counter[str]:
    ended: Counter[str] = Counter()
    for _ in range(count):
        content, block = rng.choice(blocks)
        record = GrainRecord(0, GrainKind.LZ4, digest(content), mutated(rng, block, rng.choice(blocks)[1]))
        code, kept = sent([FRAMES[0], codec.encode(Batch(1, [record])), codec.encode(Done(1, 1))])
        ended[code.name] += 1
        assert code is grpc.StatusCode.DATA_LOSS or [_plain(one) for one in kept.records] == [content]
    return ended

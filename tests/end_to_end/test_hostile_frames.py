"""Frames, grains and metadata of a hostile agent, each within the process's bounds; see ``hostile``."""

import random

import grpc
import psutil
import pytest

from common.grain import GRAIN_BYTES, ZERO_DIGEST, GrainKind, digest
from common.sync import codec
from common.sync.events import MAX_FRAME_BYTES, Batch, GrainRecord
from common.wire.v1 import replication_pb2 as wire
from tests.end_to_end.hostile import (
    DISKS,
    GROWTH_BYTES,
    NOISE,
    TEXT,
    Client,
    clean,
    client,
    honest,
    ledger,
    memory,
    opening,
    refused_commit,
    squeezed,
)
from tests.end_to_end.ledger import Ledger

__all__ = ["client", "ledger"]

pytestmark = pytest.mark.lab

MUTANTS = 400
BROKEN = {grpc.StatusCode.DATA_LOSS, grpc.StatusCode.INVALID_ARGUMENT}


def test_an_honest_stream_is_accepted(client: Client) -> None:
    """What the others vary is good by itself."""
    sync = client.begin()
    assert client.write(honest(sync, 2000)) is None
    client.stub.AbortSync(wire.AbortSyncRequest(sync=sync, cause="only a test"))


def test_mutants_of_every_frame(ledger: Ledger, client: Client) -> None:
    rng = random.Random(20261124)
    ended: dict[str, int] = {}
    sync, disk = "", DISKS
    for _ in range(MUTANTS):
        if disk == DISKS:
            if sync:
                refused_commit(client, sync)
            sync, disk = client.begin(DISKS), 0
        frames = honest(sync, 2000 + disk)
        disk += 1
        place = rng.randrange(len(frames))
        frames[place] = mutated(rng, frames[place])
        error = client.write(frames)
        code = "OK" if error is None else error.code().name
        ended[code] = ended.get(code, 0) + 1
        if error is not None:
            clean(error, ledger)
            # A frame may also turn into the opening of another stream: of no sync, or of one that is not this one.
            assert error.code() in BROKEN | {grpc.StatusCode.NOT_FOUND}, (error, frames[place][:80])
    print(f"{MUTANTS} mutants: {ended}")
    assert ended["DATA_LOSS"] > MUTANTS // 2
    refused_commit(client, sync)


def mutated(rng: random.Random, frame: bytes) -> bytes:
    """One thing wrong with a frame."""
    data = bytearray(frame)
    at = rng.randrange(len(data))
    match rng.randrange(5):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            del data[at:]
        case 2:
            data[at:at] = rng.randbytes(rng.randrange(1, 64))
        case 3:
            data[at : at + 16] = rng.randbytes(16)
        case _:
            head = rng.randrange(min(24, len(data)))  # where lengths and tags are
            data[head] = rng.randrange(256)
    return bytes(data)


def test_broken_streams_hold_no_files(ledger: Ledger, client: Client) -> None:
    assert ledger.pair.appliance is not None
    process = psutil.Process(ledger.pair.appliance.process.pid)
    before = process.num_fds()
    syncs = []
    for _ in range(8):
        syncs.append(client.begin(DISKS))
        for disk in range(DISKS):
            error = client.write(honest(syncs[-1], 2000 + disk)[:-1])
            assert error is not None
            assert error.code() is grpc.StatusCode.DATA_LOSS
    assert process.num_fds() < before + DISKS, "the syncs are open still, their files must not be"
    for sync in syncs:
        refused_commit(client, sync)


BOMB = squeezed(bytes(16 << 20))[: GRAIN_BYTES - 1]


@pytest.mark.parametrize(
    "record",
    [
        GrainRecord(0, GrainKind.LZ4, ZERO_DIGEST, BOMB),
        GrainRecord(0, GrainKind.LZ4, digest(TEXT), squeezed(TEXT[:-1])),
        GrainRecord(0, GrainKind.LZ4, digest(TEXT), squeezed(TEXT + b"x")),
        GrainRecord(0, GrainKind.RAW, ZERO_DIGEST, NOISE),
        GrainRecord(0, GrainKind.ZERO, digest(NOISE), b""),
        GrainRecord(256, GrainKind.ZERO, ZERO_DIGEST, b""),
        GrainRecord((1 << 32) - 1, GrainKind.ZERO, ZERO_DIGEST, b""),
    ],
    ids=["bomb", "short", "long", "another digest", "zero that is none", "past the end", "far past the end"],
)
def test_grain_that_is_not_what_it_says(ledger: Ledger, client: Client, record: GrainRecord) -> None:
    sync = client.begin()
    frames = [opening(sync), codec.encode(Batch(1, [record]))]
    error = client.write(frames)
    assert error is not None
    assert error.code() is grpc.StatusCode.DATA_LOSS
    clean(error, ledger)
    refused_commit(client, sync)


@pytest.mark.parametrize("size", [MAX_FRAME_BYTES + 1, 64 << 20])
def test_message_that_is_too_long(ledger: Ledger, client: Client, size: int) -> None:
    sync = client.begin(4)
    before = memory(ledger)
    for disk in range(4):
        error = client.write([opening(sync, 2000 + disk), bytes(size)])
        assert error is not None
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert memory(ledger) - before < GROWTH_BYTES
    refused_commit(client, sync)


def test_metadata_that_is_too_long(ledger: Ledger, client: Client) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        client.stub.DescribeReplica(
            wire.DescribeReplicaRequest(replica=ledger.replica), metadata=[("x-long", "a" * (64 << 10))], timeout=30
        )
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED

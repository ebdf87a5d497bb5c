"""100,000 mutants of the requests of every RPC, through the edge, the protobuf library and the services.

In this process: a process boundary and TLS would only make it slow, see ``server``.
"""

import logging
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import structlog

from common.sync import codec
from common.wire.v1 import recovery_pb2 as reading
from common.wire.v1 import replication_pb2 as writing
from target_appliance.store.memory import MemoryStore
from tests.end_to_end.random_guest import seed
from tests.hostile.bounds import bounded_memory
from tests.hostile.mutate import mutated
from tests.hostile.server import TENANT, Server, handlers
from tests.isolation.calls import CALLS, METHODS, Names

pytestmark = pytest.mark.usefixtures("uncovered")

MUTANTS = 100_000
WARM = 4_000
ROUND = 500
"""Mutants before what was begun is ended, as agents' own bounds would end it."""
VM = "11111111-1111-4111-8111-111111111111"
EXPECTED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
}
"""A mutant can be a request: of what is not there, or of what cannot be now."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    # Each refusal is logged, in this process to standard output.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        with handlers(tmp_path, MemoryStore()) as made:
            yield made
    finally:
        structlog.reset_defaults()


@pytest.mark.timeout(900)
def test_mutated_requests(server: Server) -> None:
    assert set(server.handlers) == set(METHODS)
    rng = random.Random(seed())
    _requests(server, rng, WARM)
    with bounded_memory():
        ended = _requests(server, rng, MUTANTS)
    print(f"{MUTANTS} requests: {dict(ended)}")
    assert min(ended["DATA_LOSS"], ended["INVALID_ARGUMENT"]) > MUTANTS // 20
    for replica in server.vault.replicas(TENANT):
        assert server.vault.point_numbers(TENANT, replica) == ()


def _requests(server: Server, rng: random.Random, count: int) -> Counter[str]:
    ended: Counter[str] = Counter()
    paths = sorted(METHODS)
    for number in range(count):
        if number % ROUND == 0:
            server.desk.end_all()
            good = _good(server)
        path = rng.choice(paths)
        data = mutated(rng, good[path], good[rng.choice(paths)] or b"\x0a\x01x")
        code, _answer = server.ask(path, data)
        ended[code.name] += 1
        assert code in EXPECTED, (path, data)
    return ended


def _good(server: Server) -> dict[str, bytes]:
    """A request of each RPC that would be served, for a sync of a replica that has no point."""
    code, (begun,) = server.ask(f"{codec.WRITE_METHOD.rpartition('/')[0]}/BeginSync", _begin())
    assert code is grpc.StatusCode.OK
    names = Names(VM, begun.sync)
    good = {path: make(names).SerializeToString() for path, make in CALLS.items()}
    service = codec.WRITE_METHOD.rpartition("/")[0]
    ranges = [writing.GrainRange(first=first, count=3) for first in (0, 9, 1 << 20)]
    good[f"{service}/GetManifest"] = writing.GetManifestRequest(
        sync=names.sync, disk=2000, ranges=ranges
    ).SerializeToString()
    good["/keysapart.v1.Recovery/ListReplicas"] = reading.ListPointsRequest(replica=VM).SerializeToString()
    return good


def _begin() -> bytes:
    names = Names(VM, str(uuid.uuid4()))
    return CALLS["/keysapart.v1.Replication/BeginSync"](names).SerializeToString()

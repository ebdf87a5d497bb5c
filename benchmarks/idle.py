"""What hundreds of silent streams, calls and connections of one tenant cost another: ``python -m benchmarks.idle``.

Full syncs of one VM by the two commands, without and beside them in turn; the ratio of the medians, and of the slowest,
and the slowest answer of the health port.
"""

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.end_to_end.idle import idle
from tests.end_to_end.pair import Pair
from tests.lab.site import Lab

VM, DISK = "plain01", 2000
MOST_TIMES = 2.0
MOST_HEALTH_SECONDS = 1.0
_PIECE = 1 << 20
_PATIENCE_SECONDS = 30.0


def main() -> int:
    """Measure, print, and say by the exit code whether both bars are kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=200, help="of each kind, in hundreds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mib", type=int, default=128, help="size of the VM's disk, full of noise")
    options = parser.parse_args()
    seconds: dict[str, list[float]] = {"alone": [], "beside": []}
    with (
        tempfile.TemporaryDirectory() as folder,
        Lab(Path(folder) / "lab", disk_mib=options.mib) as lab,
        Pair(lab) as pair,
    ):
        _fill(lab, options.mib)
        rival = lab.folder / "rival"
        pair.done("tenants", "add", "rival", "--out", rival)
        slowest = 0.0
        for _ in range(options.rounds):
            seconds["alone"].append(_sync(pair))
            with idle(pair, rival, options.each), _health(lab.health_port) as answered:
                seconds["beside"].append(_sync(pair))
            slowest = max(slowest, *answered)
    for name, found in seconds.items():
        print(f"{name:7} median {statistics.median(found):6.2f} s, slowest {max(found):6.2f} s, of {len(found)}")
    ratio = statistics.median(seconds["beside"]) / statistics.median(seconds["alone"])
    worst = max(seconds["beside"]) / max(seconds["alone"])
    print(f"medians {ratio:.2f} times, slowest {worst:.2f} times as long, bar {MOST_TIMES:.0f}")
    print(f"health answers within {slowest * 1000:.0f} ms, bar {MOST_HEALTH_SECONDS:.0f} s")
    return int(max(ratio, worst) > MOST_TIMES or slowest > MOST_HEALTH_SECONDS)


def _fill(lab: Lab, mib: int) -> None:
    rng = random.Random(1)
    for number in range(mib):
        lab.guest(VM, DISK).write(number * _PIECE, rng.randbytes(_PIECE))


def _sync(pair: Pair) -> float:
    began = time.monotonic()
    pair.sync(VM, "--full")
    return time.monotonic() - began


@contextlib.contextmanager
def _health(port: int) -> Iterator[list[float]]:
    """Seconds of each question, ten a second while the block runs."""
    answered: list[float] = []
    over = threading.Event()

    def ask() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not over.wait(0.1):
                began = time.monotonic()
                stub.Check(health_pb2.HealthCheckRequest(), timeout=_PATIENCE_SECONDS)
                answered.append(time.monotonic() - began)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answered
    finally:
        over.set()
        thread.join()


if __name__ == "__main__":
    sys.exit(main())

"""The bare pipe: the disk's non-zero bytes through a gRPC stream over mutual TLS that does nothing else.

With a list of extents it sends these instead, zeros and all: what a replication that trusts CBT and does nothing more
would do.

The upper bound of anything built on this transport: messages of 1 MiB, which no library takes apart, in a bidirectional
stream, the receiver only counting, both ends set up by ``common.runtime`` as ours. They are processes of their own; run
as a module it is one:

    python -m benchmarks.bare_pipe serve PKI
    python -m benchmarks.bare_pipe send PKI PORT DISK [EXTENTS]
"""

import json
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from benchmarks.disk import MIB, data_extents
from benchmarks.pki import write_pki
from benchmarks.process import Child, loopback
from common import runtime
from common.wire.v1 import replication_pb2 as wire

_SERVICE = "bench.BarePipe"
_METHOD = "Send"


@dataclass(frozen=True)
class PipeFigures:
    """One pass of the non-zero bytes."""

    seconds: float
    data_bytes: int
    wire_bytes: int
    client_peak_bytes: int
    server_peak_bytes: int
    processor_seconds: float


def send_all(disk: Path, work: Path, extents: Iterable[tuple[int, int]] | None = None) -> PipeFigures:
    """Start both ends, send what is no hole, or ``extents``: pairs of offset and length; stop them."""
    write_pki(work)
    what = [str(disk)]
    if extents is not None:
        listed = work / "extents.json"
        listed.write_text(json.dumps(list(extents)))
        what.append(str(listed))
    me = [sys.executable, "-m", "benchmarks.bare_pipe"]
    with Child([*me, "serve", str(work)], work / "log") as server:
        port = server.read_line()
        with loopback() as count, Child([*me, "send", str(work), port, *what], work / "log") as client:
            seconds, data_bytes = client.finish().split()
        server.stop()
        return PipeFigures(
            seconds=float(seconds),
            data_bytes=int(data_bytes),
            wire_bytes=count.sent,
            client_peak_bytes=client.peak_bytes,
            server_peak_bytes=server.peak_bytes,
            processor_seconds=client.processor_seconds + server.processor_seconds,
        )


def _count(frames: Iterator[bytes], _: grpc.ServicerContext) -> Iterator[wire.WriteAck]:
    received = 0
    for frame in frames:
        received += len(frame)
    yield wire.WriteAck(durable_sequence=received, done=True)


def _serve(pki: Path) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    method: Any = grpc.stream_stream_rpc_method_handler(_count, None, wire.WriteAck.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, {_METHOD: method}),))
    credentials = grpc.ssl_server_credentials(
        [((pki / "server-key.pem").read_bytes(), (pki / "server-cert.pem").read_bytes())],
        (pki / "ca-cert.pem").read_bytes(),
        require_client_auth=True,
    )
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def _frames(disk: Path, extents: Iterable[tuple[int, int]]) -> Iterator[bytes]:
    with disk.open("rb") as data:
        for start, length in extents:
            data.seek(start)
            for offset in range(0, length, MIB):
                yield data.read(min(MIB, length - offset))


def _send(pki: Path, port: str, disk: Path, listed: Path | None) -> None:
    extents = data_extents(disk) if listed is None else json.loads(listed.read_text())
    credentials = grpc.ssl_channel_credentials(
        (pki / "ca-cert.pem").read_bytes(),
        (pki / "client-key.pem").read_bytes(),
        (pki / "client-cert.pem").read_bytes(),
    )
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        grpc.channel_ready_future(channel).result(timeout=10)
        pipe: Any = channel.stream_stream(f"/{_SERVICE}/{_METHOD}", None, wire.WriteAck.FromString)
        begin = time.monotonic()
        (ack,) = pipe(_frames(disk, extents))
        print(time.monotonic() - begin, ack.durable_sequence)


if __name__ == "__main__":
    runtime.tune()
    if sys.argv[1] == "serve":
        _serve(Path(sys.argv[2]))
    else:
        listed = Path(sys.argv[5]) if len(sys.argv) > 5 else None
        _send(Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), listed)

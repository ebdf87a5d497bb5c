"""The least that any compare must do: read the whole disk and hash each grain, on one thread.

A process of its own, as the agent is: ``python -m benchmarks.read_and_hash DISK`` prints the seconds.
"""

import os
import sys
import time
from pathlib import Path

from benchmarks.disk import MIB
from benchmarks.process import Child
from common import runtime
from common.grain import GRAIN_BYTES, digest


def seconds_for(disk: Path, work: Path) -> float:
    """Read and hash ``disk`` once; the log of the run goes to ``work``."""
    work.mkdir(exist_ok=True)
    return float(Child([sys.executable, "-m", "benchmarks.read_and_hash", str(disk)], work / "log").finish())


def _main(disk: Path) -> None:
    runtime.tune()
    began = time.monotonic()
    buffer = bytearray(MIB)
    view = memoryview(buffer)
    descriptor = os.open(disk, os.O_RDONLY)
    offset = 0
    while read := os.preadv(descriptor, [buffer], offset):
        for place in range(0, read, GRAIN_BYTES):
            digest(view[place : place + GRAIN_BYTES])
        offset += read
    print(time.monotonic() - began)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))

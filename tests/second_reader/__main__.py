"""Command line: ``python -m tests.second_reader STORE_REPLICA_DIR POINT DISK DEKHEX OUT``."""

import sys
from pathlib import Path

from tests.second_reader.reader import FormatError, Replica

USAGE = "usage: python -m tests.second_reader STORE_REPLICA_DIR POINT DISK DEKHEX OUT"


def main(arguments: list[str]) -> int:
    """Write the disk at the point to OUT as raw bytes, zeros as holes."""
    if len(arguments) != 5:
        print(USAGE, file=sys.stderr)
        return 2
    folder, point, disk, dek, out = arguments
    try:
        grains = Replica(Path(folder)).write(int(point), int(disk), bytes.fromhex(dek), Path(out))
    except (FormatError, OSError) as error:
        print(f"second reader: {error}", file=sys.stderr)
        return 1
    print(f"{grains} grains")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

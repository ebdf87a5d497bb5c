"""``python -m tests.fuzz NAME [--seconds N]``: a search guided by coverage, until time is over or something breaks.

What broke a parser is left in the folder that is printed; put it into tests/fuzz/found/NAME once it is mended.
"""

import argparse
import resource
import sys
import tempfile
import warnings
from hashlib import sha256
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["common", "target_appliance", "source_agent"]):
    from tests.fuzz.targets import TARGETS, inputs

MOST_BYTES = 1 << 16
MEMORY_BYTES = 2 << 30
"""Of writable memory, the interpreter's and all libraries' included."""
HANG_SECONDS = 10


def main() -> None:
    """Fuzz one parser; the exit code is 0 when nothing broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("name", choices=sorted(TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, default=-1, help="inputs after which it ends even before")
    parser.add_argument("--seed", type=int, default=0, help="of the search; 0 for another one each time")
    parser.add_argument("--out", type=Path, help="keeps what was found; default: a new folder")
    options = parser.parse_args()
    folder = options.out or Path(tempfile.mkdtemp(prefix=f"fuzz-{options.name}-"))
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for data in inputs(options.name):
        (corpus / sha256(data).hexdigest()).write_bytes(data)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    print(f"{options.name}: {options.seconds} s, in {folder}", flush=True)
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={options.seconds}",
            f"-seed={options.seed}",
            f"-runs={options.runs}",
            f"-max_len={MOST_BYTES}",
            "-rss_limit_mb=0",  # it reads a peak that is inherited from whoever started us
            f"-timeout={HANG_SECONDS}",
            f"-artifact_prefix={folder}/",
            "-print_final_stats=1",
            "-verbosity=0",
            str(corpus),
        ],
        TARGETS[options.name].try_one,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()

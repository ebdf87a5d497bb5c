"""``make deltas``: measures, prints the table, and writes it into docs/deltas.md, with its picture beside."""

import os
import platform
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.deltas.figures import Figure
from benchmarks.deltas.guest import QUICK, Guest, Size
from benchmarks.deltas.plot import draw
from benchmarks.deltas.race import run
from benchmarks.deltas.table import markdown, placed
from benchmarks.deltas.twins import Below, Inside
from benchmarks.disk import MIB
from benchmarks.figures import memory, processor

_DOCS = Path(__file__).parents[2] / "docs"


def main(
    *,
    quick: Annotated[bool, typer.Option("--quick", help="A small guest: whether it runs. The docs stay.")] = False,
    work: Annotated[Path | None, typer.Option(help="Where files go; default: memory (/dev/shm).")] = None,
) -> None:
    """Measure both twins under the same workload."""
    size = QUICK if quick else Size()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="keysapart-deltas-", dir=work or memory()) as folder:
        top = Path(folder)
        guest = Guest(top, size)
        steps = tuple(guest.steps())
        twins = (Below(top / "below.raw"), Inside(top / "inside.raw", size.image))
        # In turn, so that a busy minute of the machine hits both.
        runs = [run(twin, guest.fresh, steps, top / twin.disk.stem) for twin in twins]
        for both in zip(*runs, strict=True):
            print(*both, sep="\n", flush=True)
            figures += both
    machine = f"{os.cpu_count()} cores, {processor()}, Python {platform.python_version()}"
    text = "".join(f"- **{step.name}**: {step.what}\n" for step in steps)
    text += f"\nDisk: {size.image // MIB} MiB. Machine: {machine}.\n\n{markdown(figures)}"
    print(text)
    if not quick:
        page = _DOCS / "deltas.md"
        page.write_text(placed(page.read_text(), text))
        draw(figures, _DOCS / "deltas.png")


if __name__ == "__main__":
    typer.run(main)

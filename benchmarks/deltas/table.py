"""The figures as a Markdown table, and its place in a page."""

import re
from collections.abc import Sequence

from benchmarks.deltas.figures import CONTESTANTS, TOGETHER, Figure, summed
from benchmarks.disk import MIB

_PLACE = re.compile(r"(<!-- figures, written by make deltas -->\n).*?(<!-- end of figures -->)", re.DOTALL)


def markdown(figures: list[Figure]) -> str:
    """A row per step and twin."""
    heads = ["step", "encrypted", "grains reported", "of them differing"]
    heads += [f"{name}, {unit}" for name in CONTESTANTS for unit in ("MiB", "s")]
    lines = [_line(heads), "| --- | --- |" + " ---: |" * (len(heads) - 2)]
    twins = list(dict.fromkeys(one.twin for one in figures))
    for step in [*dict.fromkeys(one.step for one in figures), TOGETHER]:
        lines += [_row(step, twin, figures) for twin in twins]
    return "\n".join(lines) + "\n"


def _row(step: str, twin: str, figures: list[Figure]) -> str:
    cells = []
    for contestant in CONTESTANTS:
        if step == TOGETHER:
            one = summed(figures, twin, contestant)
        else:
            (one,) = (it for it in figures if (it.step, it.twin, it.contestant) == (step, twin, contestant))
        cells += [f"{one.sent_bytes / MIB:,.1f}", f"{one.seconds:.2f}"]
    return _line([step, twin, f"{one.grains_changed:,}", f"{one.grains_differing:,}", *cells])


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def placed(page: str, text: str) -> str:
    """``page`` with ``text`` where the figures belong. Raises ValueError when it has no such place."""
    found, count = _PLACE.subn(lambda match: match[1] + text + match[2], page)
    if count != 1:
        raise ValueError(f"the page has {count} places for figures")
    return found

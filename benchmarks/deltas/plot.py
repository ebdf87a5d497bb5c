"""The figures as a picture: what is sent and how long it takes, a panel per way of sending."""

import textwrap
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from benchmarks.deltas.figures import CONTESTANTS, Figure
from benchmarks.disk import MIB

_COLOURS = ("#2a6f97", "#e07a3f")
_BAR = 0.38


def draw(figures: list[Figure], path: Path) -> None:
    """Write a PNG."""
    with mpl.rc_context({"font.size": 10, "axes.spines.top": False, "axes.spines.right": False}):
        picture = Picture(figsize=(12, 7), layout="constrained")
        axes = picture.subplots(2, len(CONTESTANTS), sharex=True, sharey="row", squeeze=False)
        for column, contestant in enumerate(CONTESTANTS):
            found = [one for one in figures if one.contestant == contestant]
            _bars(axes[0][column], found, [one.sent_bytes / MIB for one in found], digits=1)
            _bars(axes[1][column], found, [one.seconds for one in found], digits=2)
            axes[0][column].set_title(contestant, fontweight="bold")
        axes[0][0].set_ylabel("sent, MiB")
        axes[1][0].set_ylabel("time, seconds")
        handles, labels = axes[0][0].get_legend_handles_labels()
        named = [f"encryption: {label}" for label in labels]
        picture.legend(handles, named, loc="outside upper center", ncols=2, frameon=False)
        picture.savefig(path, dpi=110)


def _bars(axes: Axes, found: list[Figure], values: list[float], digits: int) -> None:
    steps = list(dict.fromkeys(one.step for one in found))
    for place, twin in enumerate(dict.fromkeys(one.twin for one in found)):
        heights = [value for one, value in zip(found, values, strict=True) if one.twin == twin]
        at = [number + (place - 0.5) * _BAR for number in range(len(steps))]
        bars = axes.bar(at, heights, _BAR, label=twin, color=_COLOURS[place])
        axes.bar_label(bars, [f"{height:.{0 if height >= 10 else digits}f}" for height in heights], fontsize=7)
    axes.set_xticks(range(len(steps)), [textwrap.fill(step, 8) for step in steps])
    axes.tick_params(axis="x", length=0)

"""The chart of what a read is made of: the library's own work, the binding's, Python's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.charts.base import new_figure, save
from analysis.charts.labels import NO_HEADING, Heading, as_label
from analysis.charts.svg import INK
from analysis.wording import duration, percent

PARTS = {"engine": "#0072b2", "binding": "#d9560a", "Python": "#8a7000"}
"""Part -> its colour, from the left."""


ROOM = 0.08
"""A part as wide as this share of the longest bar has room for its own share as text."""


class Stack(NamedTuple):
    """A call. parts : of PARTS, each in ns. whole, low, high : all of it with its interval, ns."""

    label: str
    group: str
    parts: Mapping[str, float]
    whole: float
    low: float
    high: float


def shares_of_a_read(stacks: Sequence[Stack], path: Path, heading: Heading = NO_HEADING) -> None:
    """Look at how little of a call is the library's own. Each bar is a read of one row by its key
    through a binding, from a file in WAL mode; the upper bars are in a transaction that is open,
    the lower ones each in a transaction of its own. The engine's part is the same statement stepped
    in C, by the library whose version is nearest; Python's is the same loop around two calls that
    do nothing; the binding's is what is left. The line at a bar's end is the 95 % interval of the
    whole, over blocks.
    """
    groups = list(dict.fromkeys(stack.group for stack in stacks))
    figure, grid = new_figure(len(groups), 1, high=1.2 + 0.42 * (len(stacks) + len(groups)))
    for axes, group in zip(grid[:, 0], groups, strict=True):
        shown = [stack for stack in stacks if stack.group == group]
        at, left = np.arange(len(shown)), np.zeros(len(shown))
        for part, colour in PARTS.items():
            wide = np.array([stack.parts[part] / 1000 for stack in shown])
            axes.barh(at, wide, left=left, height=0.6, color=colour, label=part, zorder=2)
            for y, stack, begin, width in zip(at, shown, left, wide, strict=True):
                if width * 1000 > ROOM * max(one.whole for one in shown):
                    share = percent(stack.parts[part] / stack.whole)
                    axes.text(begin + width / 2, y, share, ha="center", va="center", fontsize=8,
                              color="white", zorder=3)  # fmt: skip
            left += wide
        for y, stack in zip(at, shown, strict=True):
            if np.isfinite([stack.low, stack.high]).all():
                axes.plot([stack.low / 1000, stack.high / 1000], [y, y], color=INK,
                          linewidth=1.6, marker="|", zorder=3)  # fmt: skip
        axes.set_yticks(at, [as_label(stack.label) for stack in shown])
        axes.invert_yaxis()
        axes.set_title(as_label(group), fontsize=10, loc="left")
        axes.set_xlim(left=0)
    grid[-1, 0].set_xlabel("a call (µs)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower left", bbox_to_anchor=(0.1, 1.0), ncols=len(PARTS),
                  frameon=False, fontsize=9)  # fmt: skip
    figure.subplots_adjust(hspace=0.4)
    save(figure, path, heading, spoken=". ".join(_told(stack) for stack in stacks))


def _told(stack: Stack) -> str:
    parts = ", ".join(f"{part} {percent(ns / stack.whole)}" for part, ns in stack.parts.items())
    return f"{as_label(stack.label)}, {stack.group}: {duration(stack.whole)} ({parts})"
